package main

import (
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	"rbeehive/hive/access"
)

// callers is what the banner says about how hive is reached.
type callers struct {
	listen    string // as configured; empty: the URL says it
	tokenFile string // empty: there is none
	local     string // what hivectl on this machine takes as --addr; empty: nothing
}

func (d *daemon) callers() callers {
	c := callers{local: localAddr(d.cfg, &d.listeners)}
	if all := d.listening(); all != d.url && scheme(d.cfg)+all != d.url {
		c.listen = all
	}
	if d.cfg.NeedsToken() {
		c.tokenFile = tokenPath(d.cfg.DataDir)
	}
	return c
}

// listening is the configured addresses.
func (d *daemon) listening() string { return listening(d.listeners.named(d.cfg)) }

// warnAboutAccess warns about settings that allow more than is usually intended.
func (d *daemon) warnAboutAccess() {
	c := d.cfg
	switch {
	case c.Auth == access.Anyone:
		d.log.WithField("listen", d.listening()).Warn("auth is none: everybody who can reach these addresses, every user of this machine included, has full access; remove it from the configuration")
	case c.Exposed() && c.TLS == nil:
		d.log.WithField("listen", d.listening()).Warn("tokens and responses cross the network in clear text; configure a certificate (tls), or listen on loopback behind a reverse proxy")
	}
	if c.Socket.Mode&0o006 != 0 {
		d.log.WithField("socket", c.ControlSocket()).Warn("every user of this machine may connect to hive's unix sockets (socket.mode); access decides what they may do")
	}
	if c.TLS != nil {
		d.warnAboutCertificate(c.TLS)
	}
}

// warnAboutQueen warns when the queen would be told an address that it cannot reach.
func (d *daemon) warnAboutQueen(queenURL string) {
	if why := hive.Unreachable(queenURL, d.url); why != "" {
		d.log.WithFields(logrus.Fields{"queen_url": queenURL, "hive_url": d.url}).Warn(why)
	}
}

// warnAboutCertificate warns about one that no client will accept. hive starts all the
// same: its workers do not depend on its API.
func (d *daemon) warnAboutCertificate(t *config.TLS) {
	leaf, now := t.Certificate.Leaf, time.Now()
	if leaf == nil || now.After(leaf.NotBefore) && now.Before(leaf.NotAfter) {
		return
	}
	d.log.WithFields(logrus.Fields{"cert": t.Cert, "not_before": leaf.NotBefore, "not_after": leaf.NotAfter}).
		Warn("the certificate is not valid at present and clients will reject it; renew it and reload hive")
}

// maxConnections is the limit of each of so many listeners: most of hive's descriptors are
// left to its workers, two each.
func maxConnections(listeners int) int {
	const limit = 2048
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return limit
	}
	return int(min(limit, max(lim.Cur/4/uint64(listeners), 8))) //nolint:gosec // hive has a few listeners
}
