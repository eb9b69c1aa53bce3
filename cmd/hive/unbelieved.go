package main

import (
	"errors"
	"os"

	"rbeehive/hive/trust"
)

// warnOfUnread says which file does not count, to who expects it to.
func (d *daemon) warnOfUnread() {
	if name := d.cfg.Unread; name != "" {
		d.log.Warnf("hive runs as root and does not read ./%[1]s, which whoever made that directory may have written; give it with --config ./%[1]s", name)
	}
}

// warnOfProgram says so if somebody else can replace hive's own program, which is
// started anew for every worker (proc's gate) and as the reference worker. That is no
// reason not to start: who could has had the chance already.
func (d *daemon) warnOfProgram() {
	exe, err := os.Executable()
	if err == nil {
		err = trust.File(exe)
	}
	if errors.Is(err, trust.ErrUntrusted) {
		d.log.WithError(err).Warn("hive's own program is not safe from other users of this machine")
	}
}
