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
	listen    string // what was asked for; empty: the URL says it
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

// listening is the addresses that somebody has asked for.
func (d *daemon) listening() string { return listening(d.listeners.named(d.cfg)) }

// warnOfCallers says what is allowed and rarely meant.
func (d *daemon) warnOfCallers() {
	c := d.cfg
	switch {
	case c.Auth == access.Anyone:
		d.log.WithField("listen", d.listening()).Warn("everybody who reaches these addresses, every user of this machine too, may do everything: auth is none; take it out of the configuration")
	case c.Exposed() && c.TLS == nil:
		d.log.WithField("listen", d.listening()).Warn("the token and all answers cross the network in the clear; give a certificate (tls), or listen on loopback behind a reverse proxy")
	}
	if c.Socket.Mode&0o006 != 0 {
		d.log.WithField("socket", c.ControlSocket()).Warn("every user of this machine may connect to hive's unix sockets (socket.mode): what they may do there is what access says")
	}
	if c.TLS != nil {
		d.warnOfCertificate(c.TLS)
	}
}

// warnOfQueen warns when the queen would be told an address that it cannot reach.
func (d *daemon) warnOfQueen(queenURL string) {
	if why := hive.Unreachable(queenURL, d.url); why != "" {
		d.log.WithFields(logrus.Fields{"queen_url": queenURL, "hive_url": d.url}).Warn(why)
	}
}

// warnOfCertificate is for one that no client will take. hive goes on: its workers
// are more than its API.
func (d *daemon) warnOfCertificate(t *config.TLS) {
	leaf, now := t.Certificate.Leaf, time.Now()
	if leaf == nil || now.After(leaf.NotBefore) && now.Before(leaf.NotAfter) {
		return
	}
	d.log.WithFields(logrus.Fields{"cert": t.Cert, "not_before": leaf.NotBefore, "not_after": leaf.NotAfter}).
		Warn("the certificate is not valid now, and clients will refuse it; renew it and reload hive")
}

// maxConnections is how many each listener may have, of so many: most of hive's
// descriptors are left to its workers, two each.
func maxConnections(listeners int) int {
	const most = 2048
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return most
	}
	return int(min(most, max(lim.Cur/4/uint64(listeners), 8))) //nolint:gosec // hive has a few listeners
}
