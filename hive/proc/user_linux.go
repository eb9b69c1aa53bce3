package proc

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// become prepares the child to run as the given user. If that is hive's own there
// is nothing to be done, and a hive that is not root can do that too.
func (c *child) become(name string) error {
	if name == "" {
		return nil
	}
	user, err := LookUser(name)
	if err != nil {
		return err
	}
	own := unix.Geteuid()
	if own == int(user.UID) && unix.Getegid() == int(user.GID) {
		return nil
	}
	if own != 0 {
		return fmt.Errorf("%w: only a hive that runs as root can start a program as user %s, and this one runs as uid %d", ErrOtherUser, name, own)
	}
	c.user = &user
	if c.dir != "" {
		return nil
	}
	// Named, so that the kernel asks whether this user may be there. A directory
	// that is only inherited is not asked about, and what the program does in it fails.
	if c.dir, err = os.Getwd(); err != nil {
		return fmt.Errorf("hive's working directory: %w", err)
	}
	return nil
}

// whyRefused finds out at which step a fork as another user failed; all that is
// returned of it is an error number. On EACCES it tries another directory: if that
// works, it was the directory.
func (c *child) whyRefused(f *files, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: the system does not let hive become user %s (it needs CAP_SETUID and CAP_SETGID): fork: %w", ErrOtherUser, c.user.Name, err)
	case !errors.Is(err, unix.EACCES):
		return fmt.Errorf("fork as user %s: %w", c.user.Name, err)
	}
	pid, pidfd, again := c.clone(f, nil, "/")
	if again == nil {
		closeAll(pidfd)
		discard(pid)
		return fmt.Errorf("working directory: user %s may not enter %s: %w", c.user.Name, c.dir, err)
	}
	exe, _ := os.Executable()
	return fmt.Errorf("user %s may not execute hive's own program %s, by which every program is started: %w", c.user.Name, exe, again)
}
