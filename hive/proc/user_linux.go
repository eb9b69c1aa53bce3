package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
	if !user.Other() {
		return nil
	}
	if own := unix.Geteuid(); own != 0 {
		return fmt.Errorf("%w: only a hive that runs as root can start a program as user %s, and this one runs as uid %d", ErrOtherUser, name, own)
	}
	c.user = &user
	if c.dir == "" {
		c.dir = "/" // hive's own may be where this user must not be
	}
	return nil
}

// enter finds out whether the program can be in its working directory: what fails
// there now would otherwise fail when the child has been recorded.
func (c *child) enter() error {
	if c.dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), enterLimit)
	defer cancel()
	_, err := asUser(ctx, c.user, func() (struct{}, error) {
		// With "/." it is asked about, too, and not only what leads there.
		var st unix.Stat_t
		return struct{}{}, unix.Stat(filepath.Clean(c.dir)+"/.", &st)
	})
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

// enterLimit is how long a look at a working directory may take.
const enterLimit = 5 * time.Second

// whyRefused says at which step a fork as another user failed; all that is
// returned of it is an error number.
func (c *child) whyRefused(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: the system does not let hive become user %s (it needs CAP_SETUID and CAP_SETGID): fork: %w", ErrOtherUser, c.user.Name, err)
	case errors.Is(err, unix.EACCES):
		exe, _ := os.Executable()
		return fmt.Errorf("user %s may not execute hive's own program %s, by which every program is started: %w", c.user.Name, exe, err)
	}
	return fmt.Errorf("fork as user %s: %w", c.user.Name, err)
}
