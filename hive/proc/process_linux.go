package proc

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/gate"
	"rbeehive/hive/proc/internal/procfs"
	"rbeehive/store"
)

// Process is a process that is being followed: one that Start made or Adopt
// recognised. It is safe for concurrent use. It costs one pidfd and one
// goroutine that waits in Go's poller, and no thread.
type Process struct {
	id    store.Identity
	pidfd *os.File
	conn  syscall.RawConn

	watched chan struct{} // closed when the watching goroutine has returned
	done    chan struct{} // closed when the process has ended
	exit    store.Exit    // set before done is closed

	mu        sync.Mutex
	afterDone func() // called after done is closed
}

// Adopt takes back a recorded process after a restart of hive. It returns a
// Process only with Alive; with Dead and Unknown the error is the reason. The
// record is checked in this order: boot, PID namespace, pidfd_open, whether the
// pidfd says that all threads have ended, the pidfd's inode, and only without an
// inode the start time. What cannot be decided is Unknown: the lease of such a process
// must not be freed, nor the process signalled. It does not block. A Process that is not
// needed any more must be closed.
func Adopt(id store.Identity) (*Process, Verdict, error) {
	fd, verdict, err := verify(id)
	if verdict != Alive {
		return nil, verdict, fmt.Errorf("adopt process %d: %w", id.PID, err)
	}
	p, err := follow(id, fd)
	if err != nil {
		return nil, Unknown, fmt.Errorf("adopt process %d: %w", id.PID, err)
	}
	return p, Alive, nil
}

// follow takes over fd and starts watching.
func follow(id store.Identity, fd int) (*Process, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		closeAll(fd)
		return nil, fmt.Errorf("watch: %w", err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(id.PID))
	// A file outside the poller has no deadlines, and would take a thread for
	// as long as the process lives.
	if err := pidfd.SetReadDeadline(time.Time{}); err != nil {
		pidfd.Close()
		return nil, fmt.Errorf("watch: %w: pidfd cannot be polled: %w", ErrUnsupported, err)
	}
	conn, err := pidfd.SyscallConn()
	if err != nil {
		pidfd.Close()
		return nil, fmt.Errorf("watch: %w", err)
	}
	p := &Process{
		id: id, pidfd: pidfd, conn: conn,
		watched: make(chan struct{}), done: make(chan struct{}),
	}
	children.add(id.PID)
	go p.watch()
	return p, nil
}

// watch owns the end of the process. It ends itself when the process has ended
// or Close was called.
func (p *Process) watch() {
	defer close(p.watched)
	defer children.remove(p.id.PID)
	defer children.removeMain(p.id.PID, p)
	err := p.conn.Read(func(fd uintptr) bool { return hasEnded(int(fd)) })
	if err != nil {
		return // by Close: the process runs on, and Done stays open
	}
	leaf := leafOf(p.id.PID) // before it is reaped: a zombie still has its cgroup
	err = p.conn.Control(func(fd uintptr) { p.exit = findExit(p.id, int(fd)) })
	if err != nil {
		return
	}
	p.exit.At = time.Now().UTC()
	p.exit.OOM = p.exit.Signal == "SIGKILL" && oomKilled(leaf)
	// Under the lock, so that AfterDone either finds done closed or is found here.
	p.mu.Lock()
	close(p.done)
	after := p.afterDone
	p.mu.Unlock()
	p.pidfd.Close()
	if after != nil {
		after()
	}
}

// AfterDone has f called once after Done is closed, in the goroutine that
// watches the process, or at once if it is closed already: a caller that follows many
// processes then needs no goroutine of its own for each. f must not block. A
// second call replaces f.
func (p *Process) AfterDone(f func()) {
	p.mu.Lock()
	select {
	case <-p.done:
		p.mu.Unlock()
		f()
	default:
		p.afterDone = f
		p.mu.Unlock()
	}
}

// Identity returns what was recorded, or is to be recorded, of the process.
func (p *Process) Identity() store.Identity { return p.id }

// PID returns the process id. It stays the same after the process has ended, and
// will sooner or later be another process's.
func (p *Process) PID() int { return p.id.PID }

// UID returns the real user id of the process: who started it, also where it has
// gained other rights since. ErrGone when it has ended.
func (p *Process) UID() (uint32, error) {
	uids, err := procfs.ReadUIDs(p.id.PID)
	if !p.alive() { // what was read may be of another process
		return 0, fmt.Errorf("user of process %d: %w", p.id.PID, ErrGone)
	}
	if err != nil {
		return 0, fmt.Errorf("user of process %d: %w", p.id.PID, err)
	}
	return uids.Real, nil
}

// MarkMain says that this is the main process of a worker. It is no member of any other, and
// the stops of those need not look at it.
func (p *Process) MarkMain() { children.addMain(p) }

// AtGate reports whether the process is still at its gate: nothing of the program has
// run and, if the hive that started it is gone, never will. A process that
// cannot be read counts as the program. The gate process is recognised by its argv[0]: the
// program may be hive's own binary too. One that the kernel holds stands still for its tracer,
// as one does that is being debugged. It blocks for up to execGap.
func (p *Process) AtGate() bool {
	for deadline := time.Now().Add(execGap); p.alive(); time.Sleep(time.Millisecond) {
		if procfs.Argv0Is(p.id.PID, gate.Arg0) || procfs.Traced(p.id.PID) {
			return p.alive()
		}
		if !procfs.WithoutArgs(p.id.PID) || time.Now().After(deadline) {
			return false
		}
	}
	return false
}

// execGap is how long a process without arguments may be in the middle of an execve(2): the
// kernel has given it its new memory, and the arguments are not there yet
// (fs/binfmt_elf.c). A parent that waits as vfork(2) does goes on before that.
const execGap = 100 * time.Millisecond

// Ended reports whether the process has ended, without waiting for Done, which
// comes when it is also known how it ended. After Close it reports true.
func (p *Process) Ended() bool { return !p.alive() }

// Done is closed when the process has ended: its last thread, not its first. It
// is never closed after Close unless it was before.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit returns how the process ended; call it after Done. Before, and where the
// system does not let us see it, it has neither a code nor a signal. In order: the wait
// status of our own child; PIDFD_INFO_EXIT (kernel >= 6.15), which works for
// anybody's child; field 52 of /proc/<pid>/stat of a zombie that nobody reaps.
func (p *Process) Exit() store.Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return store.Exit{}
	}
}

// Signal sends sig to the process through its pidfd, so it cannot reach another
// one. It returns ErrGone when the process has ended, also after Close.
func (p *Process) Signal(sig syscall.Signal) error {
	// Control keeps the pidfd open meanwhile, also against Close: its number could
	// otherwise be another file's.
	var sent error
	err := p.conn.Control(func(fd uintptr) {
		if hasEnded(int(fd)) {
			sent = ErrGone // a zombie accepts signals without an error
			return
		}
		sent = sendSignal(int(fd), sig)
	})
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.id.PID, ErrGone)
	}
	if sent != nil {
		return fmt.Errorf("signal process %d: %w", p.id.PID, sent)
	}
	return nil
}

// Close lets go of the process without touching it, and waits for the watching
// goroutine. Calling it again, or after Done, does nothing.
func (p *Process) Close() {
	p.pidfd.Close()
	<-p.watched
}

// alive reports whether the process runs, without waiting for Done.
func (p *Process) alive() bool {
	alive := false
	err := p.conn.Control(func(fd uintptr) { alive = !hasEnded(int(fd)) })
	return err == nil && alive
}

// LastExit returns how a recorded process ended that Adopt found dead. Only a
// zombie that nobody has reaped, and that is provably the recorded process, can
// still tell; the result is unknown (neither code nor signal) otherwise.
func LastExit(id store.Identity) store.Exit {
	unknown := store.Exit{}
	boot, err := BootID()
	if err != nil || boot != id.BootID {
		return unknown
	}
	if v, _ := verifyNamespace(id); v != Alive {
		return unknown
	}
	// A zombie can be opened too. It is the recorded process if it has ended and has the
	// recorded start time, which is read after the pidfd was opened.
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return unknown
	}
	defer closeAll(fd)
	s, err := procfs.ReadStat(id.PID)
	if err != nil || s.Start != id.StartTicks || !hasEnded(fd) {
		return unknown
	}
	if inode, err := pidfdInode(fd); err != nil || id.PidfdInode != 0 && inode != id.PidfdInode {
		return unknown
	}
	exit := findExit(id, fd)
	if exit.Code != nil || exit.Signal != "" {
		exit.At = time.Now().UTC()
	}
	return exit
}
