package main

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"rbeehive/cmd/hive/config"
)

// publicURL is what others reach hive by: what was configured, else the first TCP
// listener, else the socket in hivectl's notation (http has none for sockets).
// Who listens on all addresses is reached by loopback: workers are on this machine.
func publicURL(cfg *config.Config, lns []net.Listener) string {
	if cfg.Advertise != "" {
		return cfg.Advertise
	}
	for _, ln := range lns {
		if addr, ok := tcpAddr(ln); ok {
			return scheme(cfg) + reachable(addr).String()
		}
	}
	return "unix:" + lns[0].Addr().String()
}

// localURL is how hivectl on this machine reaches hive: over a socket, where it
// needs no token, else over loopback. A certificate is for a name, so with one it
// is the public URL.
func localURL(cfg *config.Config, lns []net.Listener) string {
	for _, ln := range lns {
		if _, ok := tcpAddr(ln); !ok {
			return "unix:" + ln.Addr().String()
		}
	}
	if cfg.TLS != nil {
		return publicURL(cfg, lns)
	}
	for _, ln := range lns {
		if addr, ok := tcpAddr(ln); ok && reachable(addr).Addr().IsLoopback() {
			return scheme(cfg) + reachable(addr).String()
		}
	}
	return publicURL(cfg, lns)
}

// reachable is an address to connect to for one that is listened on.
func reachable(addr netip.AddrPort) netip.AddrPort {
	if !addr.Addr().IsUnspecified() {
		return addr
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
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
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
}

func tcpPorts(lns []net.Listener) (ports []uint16) {
	for _, ln := range lns {
		if addr, ok := tcpAddr(ln); ok {
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
