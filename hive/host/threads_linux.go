package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Go ends a program that needs another thread and gets none, with a dump of its goroutines
// (newosproc in runtime/os_linux.go). Workers of hive's own user count towards the same
// limits as hive does, so they could do that to it. It keeps threads for itself from the
// start: Go does not end those that are idle.

const (
	// keptThreads is how many threads hive keeps: 200 workers that come and go need 15.
	keptThreads = 24
	// triesArg0 is argv[0] of the process that finds out whether there is room for them,
	// because nobody survives finding out that there is not. It is this binary.
	triesArg0 = "hive-threads"
	// tightRoom is how many threads more are room enough not to try.
	tightRoom = 10 * keptThreads
	// triesTimeout bounds that process, which takes milliseconds.
	triesTimeout = 10 * time.Second
)

// ServeThreads is the main function of the process that tries whether threads can be had,
// and reports whether this is one. A program that calls KeepThreads must call it first.
func ServeThreads() bool {
	if os.Args[0] != triesArg0 {
		return false
	}
	startThreads(keptThreads)
	return true
}

// KeepThreads has this process keep the threads that it will need, for as long as it runs, if
// something limits how many it and its workers may have. The error, without them, names the
// limits that leave no room. It blocks for milliseconds,
// 10 s at most.
func KeepThreads(ctx context.Context) error {
	limits, err := TaskLimits()
	if err != nil {
		return nil // nothing is known that could be kept to; the doctor says so
	}
	// Those of the kernel are for the whole machine.
	limits = slices.DeleteFunc(limits, func(l Limit) bool { return l.Max == Unlimited || strings.HasPrefix(l.Where, "/proc/sys/") })
	if len(limits) == 0 {
		return nil
	}
	tight := slices.ContainsFunc(limits, func(l Limit) bool {
		return l.Used == 0 || l.Max < l.Used+tightRoom // what is in use is not always known
	})
	if tight {
		if err := tryThreads(ctx, limits); err != nil {
			return err
		}
	}
	startThreads(keptThreads)
	return nil
}

// tryThreads starts a process that has so many threads.
func tryThreads(ctx context.Context, limits []Limit) error {
	ctx, cancel := context.WithTimeout(ctx, triesTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Env = []string{triesArg0}, []string{}
	if err := cmd.Run(); err != nil {
		var names []string
		for _, l := range limits {
			names = append(names, fmt.Sprintf("%s (%d)", l.Where, l.Max))
		}
		return fmt.Errorf("hive needs %d threads and cannot have them (%w): the number of processes and threads is limited by %s, and those of hive's workers, and of everything else of its user, count; raise the limit (LimitNPROC= and TasksMax= in a systemd unit, ulimit -u, --pids-limit in Docker), or end some of them",
			keptThreads, err, strings.Join(names, " and "))
	}
	return nil
}

// startThreads makes the process have n threads at least, at the same moment.
func startThreads(n int) {
	var running, ended sync.WaitGroup
	running.Add(n)
	for range n {
		ended.Go(func() {
			// A goroutine that is locked to its thread keeps it from all others, also while
			// it waits.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread() // else the thread ends with the goroutine
			running.Done()
			running.Wait()
		})
	}
	ended.Wait()
}
