package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/alloc/sockets"
	"rbeehive/cmd/hive/config"
	"rbeehive/httpapi/client/unixsock"
)

// listeners are those of hive's API.
type listeners struct {
	tcp       []net.Listener // what the service manager has passed, and what listen names
	sockets   []net.Listener // the same, but for control
	loopback6 []net.Listener // [::1] of a port of IPv4, see listenLoopback6
	control   net.Listener   // nil: the data directory's file system has no sockets
}

func (l *listeners) all() []net.Listener {
	all := slices.Concat(l.tcp, l.loopback6, l.sockets)
	if l.control != nil {
		all = append(all, l.control)
	}
	return all
}

// named are those that were configured or passed.
func (l *listeners) named(cfg *config.Config) []net.Listener {
	named := slices.Concat(l.tcp, l.sockets)
	if l.control != nil && l.control.Addr().String() != unixsock.Control(cfg.DataDir) {
		named = append(named, l.control)
	}
	return named
}

func (l *listeners) close() (err error) {
	for _, ln := range l.all() {
		err = errors.Join(err, ln.Close())
	}
	return err
}

// listen opens the listeners. TCP comes before anything is written, so that a second hive
// by mistake leaves no trace; sockets may be in the data directory.
func (d *daemon) listen(ctx context.Context, exe string) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.listeners.close())
		}
	}()
	for _, ln := range d.passed {
		if _, ok := tcpAddr(ln); ok {
			d.listeners.tcp = append(d.listeners.tcp, ln)
		} else {
			d.listeners.sockets = append(d.listeners.sockets, ln)
		}
	}
	for _, addr := range d.cfg.Listen {
		if addr.Socket != "" || passedIncludes(d.cfg, addr) {
			continue
		}
		ln, err := listenTCP(ctx, addr)
		if err != nil {
			return err
		}
		d.listeners.tcp = append(d.listeners.tcp, ln)
	}
	d.listenLoopback6(ctx)
	d.warnAboutRivals(ctx)
	// Between the two: the control socket is in the directory that this creates.
	if err := d.prepare(exe); err != nil {
		return err
	}
	if err := d.listenSockets(ctx); err != nil {
		return err
	}
	d.url = publicURL(d.cfg, &d.listeners)
	return nil
}

func passedIncludes(cfg *config.Config, addr config.Address) bool {
	return slices.ContainsFunc(cfg.Passed, func(p config.Address) bool { return p.Includes(addr) })
}

// loopback6Timeout is short: the port on ::1 is not worth a late start.
const loopback6Timeout = listenTimeout / 10

// listenLoopback6 takes the port on ::1, too, where localhost leads to hive by IPv4:
// programs that try IPv6 first would send to another program there what is meant for hive.
// A machine without IPv6 needs none; where another program has that port hive warns.
func (d *daemon) listenLoopback6(ctx context.Context) {
	for _, ln := range d.listeners.tcp {
		addr, _ := tcpAddr(ln)
		beside := config.Address{TCP: netip.AddrPortFrom(netip.IPv6Loopback(), addr.Port())}
		taken := func(other net.Listener) bool { return addressOf(other).Includes(beside) }
		// Only where IPv4's localhost leads to hive, and nothing of hive listens on ::1 yet.
		if addr.Addr() != loopback4 && addr.Addr() != netip.IPv4Unspecified() || slices.ContainsFunc(d.listeners.tcp, taken) || slices.ContainsFunc(d.listeners.loopback6, taken) {
			continue
		}
		ln, err := bindTCP(ctx, beside, loopback6Timeout)
		switch {
		case err == nil:
			d.listeners.loopback6 = append(d.listeners.loopback6, ln)
		case errors.Is(err, syscall.EADDRINUSE):
			d.log.WithFields(logrus.Fields{"address": beside.String(), "holder": holderOf(ctx, beside.TCP)}).
				Warn("another program listens on hive's port of ::1: programs that try localhost by IPv6 first reach it instead of hive; stop it and restart hive, or have them use 127.0.0.1")
		case !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT):
			d.log.WithError(err).WithField("address", beside.String()).Warn("listening on hive's port of ::1 failed: another program may, and programs that try localhost by IPv6 first reach that one")
		}
	}
}

// warnAboutRivals names programs that had bound hive's port before hive listened on it. The
// kernel lets them (SO_REUSEADDR), and they can get connections that were meant for hive:
// by connecting from that port to the one a client comes from. It lists sockets that are
// only bound from Linux 6.8 on.
func (d *daemon) warnAboutRivals(ctx context.Context) {
	for _, port := range tcpPorts(d.listeners.all()) {
		snap, err := sockets.NewTable().Port(ctx, port)
		if err != nil {
			d.log.WithError(err).Debug("could not check who else has hive's port")
			return
		}
		// Without an inode it is a connection on its way out, which belongs to nobody.
		rivals := slices.DeleteFunc(slices.Clone(snap.Port(port)), func(s sockets.Socket) bool {
			return s.Inode == 0 || s.State != sockets.Bound && s.State != sockets.Other
		})
		holders, err := sockets.Holders(ctx, rivals)
		if err != nil {
			continue
		}
		for _, h := range holders {
			d.log.WithFields(logrus.Fields{"port": port, "holder": h.String()}).
				Warn("another program has bound hive's port too, and may answer in hive's place: stop it; hivectl sends it no token, other programs may")
		}
	}
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// listenSockets opens the control socket and the unix sockets of listen, but for those that
// were passed. Of sockets that were passed the first is the control socket if its path is
// not configured.
func (d *daemon) listenSockets(ctx context.Context) error {
	l, path := &d.listeners, d.cfg.ControlSocket()
	passed := l.sockets
	for i, ln := range passed {
		if ln.Addr().String() == path || d.cfg.Socket.Path == "" {
			l.control, l.sockets = ln, slices.Delete(slices.Clone(passed), i, i+1)
			break
		}
	}
	for _, addr := range d.cfg.Listen {
		if addr.Socket == "" || addr.Socket == path || passedIncludes(d.cfg, addr) {
			continue
		}
		ln, err := listenSocket(ctx, addr.Socket, d.cfg.Socket)
		if used, ok := errors.AsType[*inUseError](err); ok {
			used.remedy = "stop it, or choose another path with --listen"
		}
		if err != nil {
			return err
		}
		l.sockets = append(l.sockets, ln)
	}
	if l.control != nil {
		return nil
	}
	return d.listenControl(ctx, path)
}

func (d *daemon) listenControl(ctx context.Context, path string) (err error) {
	ln, err := listenSocket(ctx, path, d.cfg.Socket)
	if err == nil {
		d.listeners.control = ln
		return nil
	}
	used, inUse := errors.AsType[*inUseError](err)
	switch {
	case inUse && d.cfg.Socket.Path == "":
		used.remedy = "a hive runs on " + d.cfg.DataDir + "; stop that one, or choose another directory with --data-dir"
	case inUse:
		used.remedy = "stop it, or choose another path with socket.path"
	// Some network and FUSE file systems have none. hive is reached by TCP then, unless the
	// socket was asked for or nothing else listens.
	case errors.Is(err, errNoSockets) && d.cfg.Socket.Path == "" && len(d.listeners.all()) > 0:
		d.log.WithError(err).Warn("no control socket; set socket.path, such as " + unixsock.System)
		return nil
	}
	return err
}

// addressOf is where a listener listens.
func addressOf(ln net.Listener) config.Address {
	if addr, ok := tcpAddr(ln); ok {
		return config.Address{TCP: addr, V6Only: v6Only(ln)}
	}
	return config.Address{Socket: ln.Addr().String()}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
