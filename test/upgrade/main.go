// Upgrade replaces the hive binary under running workers, again and again: by a
// build of another version and back, by an orderly stop and by kill -9. Meanwhile
// clients send requests straight to the workers' ports, and every one of them is
// counted. No request may fail; after each start the same processes must be there,
// all taken back, and no other.
//
// It looks at hive only through its API, and at processes through /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "upgrade:", err)
		os.Exit(1)
	}
}

type options struct {
	hive, next string
	workers    int
	rounds     int
	every      time.Duration
}

func run() error {
	var o options
	flag.StringVar(&o.hive, "hive", "bin/hive", "the hive binary that the workers are started by")
	flag.StringVar(&o.next, "next", "bin/hive-next", "a hive binary of another version, with the same schema")
	flag.IntVar(&o.workers, "workers", 200, "workers")
	flag.IntVar(&o.rounds, "rounds", 10, "how often the binary is replaced and hive started again")
	flag.DurationVar(&o.every, "every", 200*time.Millisecond, "pause between two requests to one worker")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Printf("upgrade: %d workers, %d rounds, a request to each every %s\n", o.workers, o.rounds, o.every)
	begun := time.Now()
	l, err := upgrade(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("upgrade: %d rounds in %s: %s; all workers are the processes they were\n", o.rounds, time.Since(begun).Round(time.Second), l)
	if l.failed.Load() > 0 {
		return errors.New("requests to workers have failed")
	}
	return nil
}
