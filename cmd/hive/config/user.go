package config

import (
	"errors"
	"io/fs"

	"rbeehive/hive/proc"
)

// defaultWorkerUser is the system user that the package makes.
const defaultWorkerUser = "hive-worker"

// checkWorkerUser determines the user of workers. Only root can start programs as another
// user.
func (l *loader) checkWorkerUser(_ *settings, c *Config) error {
	if c.WorkerUser == "" {
		return l.findWorkerUser(c)
	}
	user, err := proc.LookUser(c.WorkerUser)
	switch {
	case err != nil:
		return l.fail("worker_user", "%v", err)
	case l.opts.UID != 0 && int(user.UID) != l.opts.UID:
		return l.fail("worker_user", "%q: only a hive that runs as root can start workers as another user, and this one runs as uid %d; remove it, or run hive as root", c.WorkerUser, l.opts.UID)
	case l.opts.UID != 0:
		c.WorkerUser = "" // itself
	}
	return nil
}

// findWorkerUser takes the default for root, where that user exists. If that cannot be
// determined, workers do not run as root for it: it is an error.
func (l *loader) findWorkerUser(c *Config) error {
	name := l.opts.DefaultWorkerUser
	if name == "" {
		name = defaultWorkerUser
	}
	if l.opts.UID != 0 {
		return nil
	}
	_, err := proc.LookUser(name)
	switch {
	case err == nil:
		c.WorkerUser = name
	case errors.Is(err, proc.ErrUnknownUser), errors.Is(err, fs.ErrNotExist): // a container may have no /etc/passwd
	default:
		return l.fail("worker_user", "is not set, and the user %s could not be looked up: %v; set the user that workers run as", name, err)
	}
	return nil
}
