package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/gate"
)

// child is what is to be forked: a worker, a foreground child or a command.
type child struct {
	argv, env       []string
	dir             string
	log             string // empty: a foreground child, or a command whose output is read
	foreground      bool
	cgroup, stateID string      // name of the leaf, and of which state its root is
	user            *Credential // nil: hive's own
	userName        string      // user as it was given
	noNewPrivs      bool
	// diesWithThread has the kernel kill it when the thread that forked it ends.
	diesWithThread bool
}

// child checks the spec and makes the child of it.
func (s *Spec) child() (*child, error) {
	if err := s.checkForeground(); err != nil {
		return nil, err
	}
	c := &child{
		argv: s.Argv, env: s.Env, dir: s.Dir, log: s.Log,
		foreground: s.Foreground, cgroup: s.Cgroup, stateID: s.StateID,
	}
	if err := c.check(s.User, s.NoNewPrivs); err != nil {
		return nil, err
	}
	// The proof is for the user as whom the child runs, which check has found out.
	if !s.Foreground {
		c.env = s.stamped(c.uid())
	}
	return c, nil
}

// checkForeground refuses what a foreground child does not have: to ignore it would lose
// a log, or the proof of whose process it is.
func (s *Spec) checkForeground() error {
	if !s.Foreground && s.Log == "" {
		return errors.New("log: expected the path of a file")
	}
	if !s.Foreground {
		return nil
	}
	for _, f := range []struct{ name, value string }{
		{"Log", s.Log}, {"Cgroup", s.Cgroup}, {"StateID", s.StateID}, {"LeaseID", s.LeaseID}, {"WorkerID", s.WorkerID}, {"User", s.User},
	} {
		if f.value != "" {
			return fmt.Errorf("%s must be empty for a foreground child, it is %q", f.name, f.value)
		}
	}
	return nil
}

// check finds what would otherwise look like a failure of the gate, and completes the
// child for the user.
func (c *child) check(user string, noNewPrivs *bool) error {
	if len(c.argv) == 0 || !filepath.IsAbs(c.argv[0]) {
		return errors.New("argv[0] must be the absolute path of the program")
	}
	// The kernel takes strings that end with a zero byte: the rest would be lost.
	for _, arg := range c.argv {
		if strings.IndexByte(arg, 0) >= 0 {
			return errors.New("an argument holds a zero byte")
		}
	}
	if strings.IndexByte(c.dir, 0) >= 0 {
		return errors.New("working directory: its name holds a zero byte")
	}
	if err := c.setUser(user); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	c.noNewPrivs = c.user != nil && c.user.unprivileged()
	if noNewPrivs != nil {
		c.noNewPrivs = *noNewPrivs
	}
	return c.checkDir()
}

// uid is the user as whom the child is started.
func (c *child) uid() uint32 {
	if c.user != nil {
		return c.user.UID
	}
	return uint32(os.Geteuid())
}

// setUser prepares the child to run as the given user. If that is hive's own there is
// nothing to do, and hive need not be root for it.
func (c *child) setUser(name string) error {
	if name == "" {
		return nil
	}
	user, err := LookUser(name)
	if err != nil {
		return err
	}
	if !user.Other() {
		return nil
	}
	if own := unix.Geteuid(); own != 0 {
		return fmt.Errorf("%w: only a hive that runs as root can start a program as user %s, and this one runs as uid %d", ErrOtherUser, name, own)
	}
	c.user, c.userName = &user, name
	if c.dir == "" {
		c.dir = "/" // hive's own directory may be closed to this user
	}
	return nil
}

// checkDirTimeout is how long the check of a working directory may take.
const checkDirTimeout = 5 * time.Second

// checkDir finds out whether the program can enter its working directory: what fails
// there now would otherwise fail when the child has been recorded. In a file system that
// hangs it takes checkDirTimeout.
func (c *child) checkDir() error {
	if c.dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkDirTimeout)
	defer cancel()
	_, err := lookAtDir.As(ctx, c.userName, c.dir)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("working directory: %s is not a directory", c.dir)
	case errors.Is(err, unix.EACCES) && c.user != nil:
		return fmt.Errorf("working directory: user %s may not enter %s: %w", c.user.Name, c.dir, err)
	}
	return fmt.Errorf("working directory: %s: %w", c.dir, err)
}

var lookAtDir = NewLook("dir", func(dir string) (bool, error) {
	// With "/." the directory itself must be searchable, and not only what leads to it.
	var st unix.Stat_t
	return true, unix.Stat(filepath.Clean(dir)+"/.", &st)
})

// forkError says at which step a fork as another user failed; the fork itself returns
// only an error number.
func (c *child) forkError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: the system does not let hive become user %s (it needs CAP_SETUID and CAP_SETGID): fork: %w", ErrOtherUser, c.user.Name, err)
	case errors.Is(err, unix.EACCES):
		exe, _ := os.Executable()
		return fmt.Errorf("user %s may not execute hive's own program %s, by which this program is started: %w", c.user.Name, exe, err)
	}
	return fmt.Errorf("fork as user %s: %w", c.user.Name, err)
}

// openByte is what opens the gate. A person who writes nohup means the program that is to
// run, not the one that starts it.
func (c *child) openByte() byte {
	if c.foreground && signal.Ignored(unix.SIGHUP) {
		return gate.GoNoHangup
	}
	return gate.Go
}

// gateLetters tells the gate what to do besides executing the program.
func (c *child) gateLetters() string {
	var what []byte
	if c.user != nil && c.user.unprivileged() {
		what = append(what, gate.AnotherUser)
	}
	if c.noNewPrivs {
		what = append(what, gate.NoNewPrivs)
	}
	return string(what)
}
