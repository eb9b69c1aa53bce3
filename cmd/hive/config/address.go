package config

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rbeehive/hive/access"
	"rbeehive/httpapi/client/unixsock"
	"rbeehive/store/plain"
)

// Address is where the API listens: a TCP port or a unix socket.
type Address struct {
	TCP    netip.AddrPort // with no valid address: all of the machine's; port 0: any free one
	V6Only bool           // [::] without IPv4, as only a service manager opens it
	Socket string         // absolute path of a unix socket; empty: TCP
}

// String is the address as it may be written in listen.
func (a Address) String() string {
	switch {
	case a.Socket != "":
		return "unix:" + a.Socket
	case !a.TCP.Addr().IsValid():
		return ":" + strconv.Itoa(int(a.TCP.Port()))
	}
	return a.TCP.String()
}

// Local reports whether only this machine reaches the address.
func (a Address) Local() bool { return a.Socket != "" || a.TCP.Addr().IsLoopback() }

// Wildcard reports whether it means all addresses of the machine.
func (a Address) Wildcard() bool {
	return a.Socket == "" && (!a.TCP.Addr().IsValid() || a.TCP.Addr().IsUnspecified())
}

// Includes reports whether listening on a leaves nothing to listen on for b.
func (a Address) Includes(b Address) bool {
	if a.Socket == b.Socket && a.TCP == b.TCP && (!a.Wildcard() || a.V6Only == b.V6Only) { // of one address V6Only says nothing
		return a.Socket != "" || a.TCP.Port() != 0
	}
	if !a.Wildcard() || b.Socket != "" || a.TCP.Port() != b.TCP.Port() || a.TCP.Port() == 0 {
		return false
	}
	// [::] and no host take IPv4 too, and need it.
	v4, v6 := a.TCP.Addr().Is4() || !a.V6Only, !a.TCP.Addr().Is4()
	wants4, wants6 := b.TCP.Addr().Is4() || b.Wildcard() && !b.V6Only, !b.TCP.Addr().Is4()
	return (v4 || !wants4) && (v6 || !wants6)
}

// listenNone is listen of a hive that has nothing but its control socket.
const listenNone = "none"

var wantAddress = "expected host:port with an IP address or localhost, such as " + defaultOf("listen") + ", or unix:/path; or none, for the control socket alone"

// checkListen reads listen and puts port into it.
func (l *loader) checkListen(s *settings) {
	c := s.Config
	c.Auth = cmp.Or(c.Auth, access.ByUser) // "" is as if it had not been said
	c.Passed = l.opts.Passed
	if len(s.Listen) == 0 {
		l.fail("listen", "no address; %s", wantAddress)
		return
	}
	for _, text := range s.Listen {
		if text == listenNone && len(s.Listen) == 1 || l.passedInstead(s) {
			continue
		}
		addr, ok := l.address(text)
		if !ok {
			return // nor can it be said what port would apply to
		}
		c.Listen = append(c.Listen, addr)
	}
	l.applyPort(s.Port, c)
	// listen(2) would say only that an address is in use, which reads as if by somebody else.
	for i, a := range c.Listen {
		for j, b := range c.Listen {
			if i != j && a.Includes(b) {
				l.fail("listen", "%s and %s: the first includes the second; remove one", a, b)
			}
		}
	}
}

// passedInstead reports whether TCP sockets of the service manager replace the default
// address, which nobody has configured.
func (l *loader) passedInstead(s *settings) bool {
	layer, _ := l.origin("listen")
	return layer == byDefault && s.Port == "" && slices.ContainsFunc(l.opts.Passed, func(a Address) bool { return a.Socket == "" })
}

// applyPort puts listen and port together. A port of a higher layer changes the
// port of listen; one of a lower layer is overridden with it.
func (l *loader) applyPort(text string, c *Config) {
	if text == "" {
		return
	}
	portLayer, _ := l.origin("port")
	listenLayer, listenName := l.origin("listen")
	port, err := strconv.ParseUint(text, 10, 16)
	tcp := slices.DeleteFunc(slices.Clone(c.Listen), func(a Address) bool { return a.Socket != "" })
	switch {
	// Kubernetes sets HIVE_PORT=tcp://10.0.0.1:7835 in each pod beside a service named hive.
	case err != nil && portLayer == byVariable:
		l.fail("port", "%q: expected a port number from 0 to 65535; %s", text, serviceLinks)
	case err != nil:
		l.fail("port", "%q: expected a port number from 0 to 65535", text)
	case portLayer < listenLayer:
	case len(tcp) > 1:
		l.fail("port", "%d: %s has several TCP addresses; write the ports there", port, listenName)
	case len(tcp) == 0:
		l.fail("port", "%d: %s has no TCP address to apply it to", port, listenName)
	// Of one layer neither goes before the other, and to choose would be wrong half the time.
	case portLayer == listenLayer && uint16(port) != tcp[0].TCP.Port():
		l.fail("port", "%d contradicts %s %s; give only one of them", port, listenName, tcp[0])
	default:
		i := slices.Index(c.Listen, tcp[0])
		c.Listen[i].TCP = netip.AddrPortFrom(tcp[0].TCP.Addr(), uint16(port))
	}
}

// address reads one of listen. What is wrong with it has been noted if it is not ok.
func (l *loader) address(text string) (addr Address, ok bool) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		path, ok := l.socketPath("listen", text, path)
		return Address{Socket: path}, ok
	}
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		l.fail("listen", "%q: %s", text, wantAddress)
		return addr, false
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		l.fail("listen", "%q: %q is no port number; %s", text, portText, wantAddress)
		return addr, false
	}
	var ip netip.Addr
	switch host {
	case "": // all addresses
	case "localhost":
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		// No names: who answers for a name would decide where hive listens.
		if ip, err = netip.ParseAddr(host); err != nil {
			l.fail("listen", "%q: %q is no IP address; %s", text, host, wantAddress)
			return addr, false
		}
	}
	return Address{TCP: netip.AddrPortFrom(ip.Unmap(), uint16(port))}, true
}

// socketPath checks the path of a unix socket, which stands in text.
func (l *loader) socketPath(key, text, path string) (clean string, ok bool) {
	example := strings.TrimSuffix(text, path) + unixsock.System
	clean = filepath.Clean(path)
	switch {
	case plain.Home(path) != "":
		l.fail(key, "%q: the path %s", text, plain.Home(path))
	case !filepath.IsAbs(path):
		l.fail(key, "%q: a unix socket needs an absolute path, such as %s", text, example)
	case strings.HasSuffix(path, "/"):
		l.fail(key, "%q: a unix socket needs the path of a file, such as %s", text, example)
	case len(clean) > unixsock.MaxPath: // other programs than hivectl could not connect to it
		l.fail(key, "%q: the path of a unix socket has at most %d bytes, this one %d; choose a shorter one", text, unixsock.MaxPath, len(clean))
	default:
		return clean, true
	}
	return "", false
}

// checkAdvertise requires a URL that paths of the API can be appended to.
func (l *loader) checkAdvertise(s *settings) {
	if s.Advertise == "" {
		return
	}
	const want = "expected http:// or https:// with a host and nothing after it, such as http://gpubox.lan:7835"
	u, err := url.Parse(s.Advertise)
	// What url.Parse says may hold a password.
	if err != nil {
		l.fail("advertise", "is no URL; %s", want)
		return
	}
	host := u.Hostname()
	_, ipErr := netip.ParseAddr(host)
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	// It is printed, logged and told to the queen.
	case u.User != nil:
		l.fail("advertise", "may hold no user or password; %s", want)
	case u.Scheme != "http" && u.Scheme != "https", ipErr != nil && !hostRE.MatchString(host),
		u.Port() != "" && (portErr != nil || port == 0), strings.HasSuffix(u.Host, ":"),
		strings.Trim(u.Path, "/") != "", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		l.fail("advertise", "%q: %s", s.Advertise, want)
	default:
		s.Advertise = u.Scheme + "://" + u.Host
	}
}
