package proc

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/procfs"
)

// Reaper makes this process the reaper of all its descendants: when a worker's
// process ends, its children come to hive instead of to init, so that descent
// still proves something, and hive reaps the zombies.
type Reaper struct {
	log  func(pid int)
	wake chan struct{}
	stop chan struct{}
	wg   sync.WaitGroup
	once sync.Once
}

// NewReaper sets PR_SET_CHILD_SUBREAPER and reaps the children that hive inherits from
// then on; log, which may be nil, is called with the PID of each, from the reaper's
// goroutine.
// Children that Start made are left to their watchers, and those in hive's own
// session (os/exec) to whoever started them: nothing is reaped (WNOWAIT) until it
// is clear whose a child is. Children in hive's session that were inherited are therefore
// not reaped. There can be one Reaper at a time.
func NewReaper(log func(pid int)) (*Reaper, error) {
	if log == nil {
		log = func(int) {}
	}
	r := &Reaper{log: log, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	if !children.attach(r.wakeUp) {
		return nil, errors.New("reap: there is a reaper already")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		children.detach()
		return nil, fmt.Errorf("reap: become subreaper: %w", err)
	}
	// Signals are lost while one is pending. That is enough: each round reaps all.
	sigchld := make(chan os.Signal, 1)
	signal.Notify(sigchld, unix.SIGCHLD)
	r.wg.Go(func() {
		defer signal.Stop(sigchld)
		r.run(sigchld)
	})
	r.wakeUp()
	return r, nil
}

// Close stops reaping, and descendants go to init again. It waits for the
// goroutine. Calling it again does nothing.
func (r *Reaper) Close() {
	r.once.Do(func() {
		close(r.stop)
		r.wg.Wait()
		children.detach()
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	})
}

func (r *Reaper) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default: // it is going to reap anyway
	}
}

// retryInterval is how soon the reaper tries again when somebody else's child stood in
// its way; there is no signal when that child is reaped at last.
const retryInterval = time.Second

func (r *Reaper) run(sigchld <-chan os.Signal) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-sigchld:
		case <-r.wake:
		case <-timer.C:
		}
		if blocked := r.reap(); blocked {
			timer.Reset(retryInterval)
		}
	}
}

// reap reaps all inherited children that have ended. It returns true when a child that
// is not its own to reap has ended and is still there.
func (r *Reaper) reap() bool {
	for {
		pid, ok, held := r.reapFirst()
		if held {
			return true // it stands at its gate for a moment, and others may have ended behind it
		}
		if !ok {
			break
		}
		if pid == 0 {
			// waitid shows the first child that has ended, and that one is not ours
			// to reap. Others may stand behind it.
			return r.reapListed()
		}
		r.log(pid)
	}
	return false
}

// reapFirst reaps the first child that has ended. pid is 0 when that child is
// not to be reaped; ok is false when no child has ended. held: one that is traced was shown
// instead.
func (r *Reaper) reapFirst() (pid int, ok, held bool) {
	// Nothing is forked meanwhile, so every child of Start is in children.
	children.fork.Lock()
	defer children.fork.Unlock()
	pid, held = endedChild(unix.P_ALL, 0)
	if pid == 0 {
		return 0, false, held
	}
	if !hasNoWaiter(pid) {
		return 0, true, false
	}
	return pid, reapZombie(pid), false
}

// reapListed asks for each child by its PID. blocked: a child of somebody else that has
// ended is still there.
func (r *Reaper) reapListed() (blocked bool) {
	for _, pid := range procfs.Children() {
		reaped, foreign := r.reapOne(pid)
		if reaped {
			r.log(pid)
		}
		blocked = blocked || foreign
	}
	return blocked
}

func (r *Reaper) reapOne(pid int) (reaped, foreign bool) {
	children.fork.Lock()
	defer children.fork.Unlock()
	if ended, _ := endedChild(unix.P_PID, pid); ended == 0 {
		return false, false
	}
	if !hasNoWaiter(pid) {
		return false, !children.has(pid)
	}
	return reapZombie(pid), false
}

// endedChild returns the PID of a child that has ended, without reaping it; 0: none. held: a
// traced child that stands still was shown, as it is also to who does not ask for that
// (wait_consider_task in kernel/exit.c).
func endedChild(idType, id int) (pid int, held bool) {
	var raw unix.Siginfo
	for {
		err := unix.Waitid(idType, id, &raw, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, false
		}
		if raw.Code == childTrapped {
			return 0, true
		}
		return int((*childInfo)(unsafe.Pointer(&raw)).union.pid), false
	}
}

// hasNoWaiter reports a child that nothing in this process waits for: it was inherited.
func hasNoWaiter(pid int) bool {
	if children.has(pid) {
		return false
	}
	own, err := unix.Getsid(0)
	if err != nil {
		return false
	}
	// What os/exec has started is in hive's session; a worker's processes are in another.
	sid, err := unix.Getsid(pid)
	return err == nil && sid != own
}

// reapZombie reaps by PID, because until then the number cannot change hands.
func reapZombie(pid int) bool {
	for {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && got == pid
		}
	}
}
