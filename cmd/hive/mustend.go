package main

import (
	"fmt"
	"os"
	"time"
)

// endTimeout is how long hive may take to end what it does, workers that are stopped not
// counted. Only what waits for a file system or a kernel that does not answer takes longer.
const endTimeout = 30 * time.Second

// mustEnd ends the process if done is not called in time. hive may be killed at any moment, so
// giving up is as safe: the workers run on, and the next start finds out what is true.
func mustEnd(what string) (done func()) {
	return mustEndWithin(endTimeout, what, os.Exit)
}

func mustEndWithin(limit time.Duration, what string, exit func(int)) (done func()) {
	timer := time.AfterFunc(limit, func() {
		// Not by the log: it may be what waits.
		fmt.Fprintf(os.Stderr, "hive: %s has not ended within %s, because something in it waits: a disk, a mount. hive ends without it; the workers run on, and the next start finds out what is true\n", what, limit)
		exit(1)
	})
	return func() { timer.Stop() }
}
