// Package procread bounds reads of /proc that a process can hold up.
//
// A process in the middle of an execve(2) holds a lock of the kernel's (exec_update_lock)
// until the files that are closed on exec are closed. If one of them lies on a mount that
// does not answer (FUSE, NFS), that is never. Until then a read of its environ, io, auxv, maps
// and, on later kernels, of its stat and of the links exe, cwd and fd/N blocks, for everybody,
// in a way that nothing but SIGKILL ends (tried on Linux 6.18; /proc/PID/status, cgroup, comm
// and cmdline answer). Any user who may mount FUSE can make such a process.
//
// Each read that is held up costs a thread until it ends, and each process one such read.
package procread

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ErrHeld is wrapped by the error of a read that is held up.
var ErrHeld = errors.New("the process is held in the middle of an execve, and nothing can be read of it")

// timeout is how long a read may make no progress. The kernel answers out of its memory,
// but on a busy machine who reads has to wait for a CPU. A user who has many processes held
// must not make each of them cost as much, nor take all threads that a Go program can have
// (10,000): beyond mostHeld nothing is read. A thread that only waits for a CPU is given longer.
const (
	timeout      = time.Second
	mostRuns     = 10
	crowdTimeout = 100 * time.Millisecond
	crowd        = 4
	mostHeld     = 1000
)

// held is the processes that a read still waits for.
var held struct {
	sync.Mutex
	pids map[int]bool
}

// Progress says that a read of many parts has come on.
type Progress func()

// Read carries out a read of a process that may be held up. It blocks until read has ended,
// or has called Progress for the last time a second ago and its thread sleeps (ten seconds, if it
// runs or waits for a CPU); the read is then left to itself, and must not touch anything of the
// caller's. It must not be in another goroutine. Who asks of the same process meanwhile is
// told at once. The errors are those of read, and ErrHeld. Safe for concurrent use.
func Read[T any](pid int, read func(Progress) (T, error)) (T, error) {
	var none T
	limit, ok := limitFor(pid)
	if !ok {
		return none, fmt.Errorf("process %d: %w", pid, ErrHeld)
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	var steps atomic.Int64
	var thread atomic.Int32 // in which the read is; 0: it has not begun
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread.Store(threadID())
		value, err := read(func() { steps.Add(1) })
		done <- result{value, err}
		release(pid)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for last, runs := int64(0), 1; ; {
		select {
		case r := <-done:
			return r.value, r.err
		case <-timer.C:
		}
		if now := steps.Load(); now != last {
			last, runs = now, 1
			timer.Reset(limit)
			continue
		}
		if runs < mostRuns && !sleeps(thread.Load()) {
			runs++
			timer.Reset(limit)
			continue
		}
		hold(pid)
		select {
		case r := <-done: // just now, perhaps before it was in the map
			release(pid)
			return r.value, r.err
		default:
			return none, fmt.Errorf("process %d: %w", pid, ErrHeld)
		}
	}
}

// sleeps reports whether a thread of this process waits for something else than a CPU. It looks several
// times: one that gets on sleeps now and then, too.
func sleeps(thread int32) bool {
	if thread == 0 {
		return false
	}
	for range 5 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", thread))
		// The state is behind the name (proc_pid_stat(5)).
		_, state, ok := bytes.Cut(stat, []byte(") "))
		if err != nil || !ok || state[0] == 'R' {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// limitFor is how long a read may make no progress; not ok: it is not to be begun.
func limitFor(pid int) (limit time.Duration, ok bool) {
	held.Lock()
	defer held.Unlock()
	switch n := len(held.pids); {
	case held.pids[pid] || n >= mostHeld:
		return 0, false
	case n >= crowd:
		return crowdTimeout, true
	}
	return timeout, true
}

func hold(pid int) {
	held.Lock()
	defer held.Unlock()
	if held.pids == nil {
		held.pids = map[int]bool{}
	}
	held.pids[pid] = true
}

func release(pid int) {
	held.Lock()
	defer held.Unlock()
	delete(held.pids, pid)
}
