package proc

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// files is what a child gets, and our ends of its two pipes.
type files struct {
	std          [3]int // the child's standard files
	null, log    int    // those of them that were opened for it; -1: they are its caller's
	read         int    // our end of a pipe in place of a log; -1: none
	wait, status int    // the child's ends: read, write
	open         int    // our end, write
	report       int    // our end, read
}

// openFiles makes everything close-on-exec: children that are forked at the same
// time must not keep the write end of this one's gate, or its end of file would
// not come when hive dies. The pipes are blocking at the child's ends, which
// os.Pipe would not leave them. A traced child has no gate that needs pipes.
func (c *child) openFiles(traced bool) (*files, error) {
	f := &files{std: [3]int{0, 1, 2}, null: -1, log: -1, read: -1, wait: -1, status: -1, open: -1, report: -1}
	var err error
	if !traced {
		err = f.openPipes()
	}
	if err == nil && !c.foreground {
		err = f.openStd(c.log, c.user)
	}
	if err != nil {
		f.closeChildEnds()
		f.closeOurEnds()
		return nil, err
	}
	return f, nil
}

func (f *files) openPipes() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	f.wait, f.open = pipe[0], pipe[1]
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	f.report, f.status = pipe[0], pipe[1]
	// Our end is read through Go's poller, so that a context can interrupt it.
	if err := unix.SetNonblock(f.report, true); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	return nil
}

// openStd opens what a child has instead of a terminal.
func (f *files) openStd(log string, user *Credential) error {
	var err error
	if f.null, err = unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	if log == "" {
		return f.openOutput(user)
	}
	// An open without O_NONBLOCK would wait for a lease that a process of the log's
	// owner has on it (fcntl(2), F_SETLEASE: 45 s).
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f.log, err = unix.Open(log, flags, 0o600)
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("open log %s: a process of its owner has a lease on it (fcntl(2), F_SETLEASE)", log)
	}
	if err == nil {
		err = unix.SetNonblock(f.log, false) // the flag is only for the open, not for the program
	}
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrLog, log, err)
	}
	if user != nil {
		if err := chownLog(f.log, *user); err != nil {
			return fmt.Errorf("log %s: %w", log, err)
		}
	}
	f.std = [3]int{f.null, f.log, f.log}
	return nil
}

// openOutput opens a pipe in the place of a log.
func (f *files) openOutput(user *Credential) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	f.read, f.log = pipe[0], pipe[1]
	f.std = [3]int{f.null, f.log, f.log}
	// Like a log, so that the program can open it as /dev/stderr.
	if user != nil {
		if err := unix.Fchown(f.log, int(user.UID), int(user.GID)); err != nil {
			return fmt.Errorf("give the output to user %s: %w", user.Name, err)
		}
	}
	if err := unix.SetNonblock(f.read, true); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	return nil
}

// chownLog makes the log the user's, who could not open it as /dev/stderr
// otherwise. A hard link that somebody made to a file of root's must not become the
// user's; and what is not a regular file, such as /dev/null, is everybody's already.
func chownLog(fd int, user Credential) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid == user.UID && st.Gid == user.GID {
		return nil
	}
	if st.Nlink != 1 {
		return fmt.Errorf("it is not given to user %s, because it has %d names (hard links)", user.Name, st.Nlink)
	}
	if err := unix.Fchown(fd, int(user.UID), int(user.GID)); err != nil {
		return fmt.Errorf("give it to user %s: %w", user.Name, err)
	}
	return nil
}

func (f *files) closeChildEnds() { closeAll(f.null, f.log, f.wait, f.status) }
func (f *files) closeOurEnds()   { closeAll(f.open, f.report, f.read) }
