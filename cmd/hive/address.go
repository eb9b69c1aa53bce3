package main

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"rbeehive/cmd/hive/config"
	"rbeehive/httpapi/client/unixsock"
)

// publicURL is the URL of hive for others: what was configured, else the first TCP
// listener, else a socket in hivectl's notation (http has none for sockets). A wildcard
// address becomes loopback: workers are on this machine.
func publicURL(cfg *config.Config, lns *listeners) string {
	if cfg.Advertise != "" {
		return cfg.Advertise
	}
	for _, ln := range lns.tcp {
		addr, _ := tcpAddr(ln)
		return scheme(cfg) + reachable(addr).String()
	}
	return "unix:" + slices.Concat(lns.sockets, []net.Listener{lns.control})[0].Addr().String()
}

// defaultURL is what hivectl tries when there is no socket.
const defaultURL = "http://127.0.0.1:7835"

// localAddr is the address of hive to give to hivectl on this machine; empty: it finds hive
// by itself. Over a socket it needs no token. Without a socket it is loopback, and with a
// certificate, which is for a name, the public URL.
func localAddr(cfg *config.Config, lns *listeners) string {
	if lns.control != nil {
		path := lns.control.Addr().String()
		if path == unixsock.System || path == unixsock.Control(config.DefaultDataDir(os.Geteuid())) {
			return ""
		}
		return "unix:" + path
	}
	url := publicURL(cfg, lns)
	for _, ln := range lns.tcp {
		if addr, _ := tcpAddr(ln); cfg.TLS == nil && reachable(addr).Addr().IsLoopback() {
			url = scheme(cfg) + reachable(addr).String()
			break
		}
	}
	if url == defaultURL {
		return ""
	}
	return url
}

// reachable is the address to connect to for a listen address.
func reachable(addr netip.AddrPort) netip.AddrPort {
	if !addr.Addr().IsUnspecified() {
		return addr
	}
	return netip.AddrPortFrom(loopback4, addr.Port())
}

func scheme(cfg *config.Config) string {
	if cfg.TLS != nil {
		return "https://"
	}
	return "http://"
}

func tcpAddr(ln net.Listener) (netip.AddrPort, bool) {
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := addr.AddrPort()
	// Of a socket of both families net shows IPv4 as ::ffff:a.b.c.d, which compares as another address.
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
}

func tcpPorts(lns []net.Listener) (ports []uint16) {
	for _, ln := range lns {
		if addr, ok := tcpAddr(ln); ok && !slices.Contains(ports, addr.Port()) {
			ports = append(ports, addr.Port())
		}
	}
	return ports
}

// listening is all addresses, for people.
func listening(lns []net.Listener) string {
	var all []string
	for _, ln := range lns {
		addr := ln.Addr().String()
		if _, ok := tcpAddr(ln); !ok {
			addr = "unix:" + addr
		}
		all = append(all, addr)
	}
	return strings.Join(all, ", ")
}

// allowedHosts is allowed_hosts and the name that hive itself gives to others.
func allowedHosts(cfg *config.Config) []string {
	u, err := url.Parse(cfg.Advertise)
	if err != nil || u.Hostname() == "" {
		return cfg.AllowedHosts
	}
	return append([]string{u.Hostname()}, cfg.AllowedHosts...)
}
