package main

import (
	"errors"
	"os"

	"rbeehive/hive/trust"
)

// warnAboutUnread names a configuration file that is ignored.
func (d *daemon) warnAboutUnread() {
	if name := d.cfg.Unread; name != "" {
		d.log.Warnf("hive runs as root and ignores ./%[1]s, which another user may have written; use --config ./%[1]s to read it", name)
	}
}

// warnAboutExecutable warns if another user can replace hive's executable, which is started
// for every worker (proc's gate) and as the reference worker. That is no reason not to
// start: it may have happened already.
func (d *daemon) warnAboutExecutable() {
	exe, err := os.Executable()
	if err == nil {
		err = trust.File(exe)
	}
	if errors.Is(err, trust.ErrUntrusted) {
		d.log.WithError(err).Warn("hive's executable can be changed by other users")
	}
}
