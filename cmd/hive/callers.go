package main

import (
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	"rbeehive/hive/access"
)

// callers is what the banner says about how hive is reached.
type callers struct {
	listen    string // all addresses; empty: the URL says it
	tokenFile string // empty: no token is asked for
	local     string // what hivectl on this machine takes as --addr; empty: the URL
	sayToken  bool   // hivectl does not look there by itself
}

func (d *daemon) callers() callers {
	c := callers{local: localURL(d.cfg, d.listeners)}
	if all := listening(d.listeners); all != d.url && scheme(d.cfg)+all != d.url {
		c.listen = all
	}
	if d.cfg.NeedsToken() {
		c.tokenFile = tokenPath(d.cfg.DataDir)
		bySocket := strings.HasPrefix(c.local, "unix:")
		c.sayToken = !bySocket && (d.cfg.DataDir != config.DefaultDataDir(os.Geteuid()) || !loopback(d.listeners))
	}
	return c
}

// loopback reports whether hive is reached by a loopback address.
func loopback(lns []net.Listener) bool {
	for _, ln := range lns {
		if addr, ok := tcpAddr(ln); ok && reachable(addr).Addr().IsLoopback() {
			return true
		}
	}
	return false
}

// warnOfCallers says what is allowed and rarely meant.
func (d *daemon) warnOfCallers() {
	c := d.cfg
	switch {
	case c.Auth == access.Anyone:
		d.log.WithField("listen", listening(d.listeners)).Warn("everybody who reaches these addresses, every user of this machine too, may do everything: auth is none; take it out of the configuration")
	case c.Exposed() && c.TLS == nil:
		d.log.WithField("listen", listening(d.listeners)).Warn("the token and all answers cross the network in the clear; give a certificate (tls), or listen on loopback behind a reverse proxy")
	}
	for _, a := range c.Listen {
		if a.Socket != "" && c.Socket.Mode&0o006 != 0 {
			d.log.WithField("socket", a.Socket).Warn("every user of this machine may call hive over this socket, without a token: socket.mode lets others in")
		}
	}
	if c.TLS != nil {
		d.warnOfCertificate(c.TLS)
	}
}

// warnOfQueen is for a queen who would be told an address that she cannot reach.
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

// maxConnections leaves most of hive's descriptors to its workers, two each.
func maxConnections() int {
	const most = 2048
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return most
	}
	return int(min(most, max(lim.Cur/4, 1)))
}
