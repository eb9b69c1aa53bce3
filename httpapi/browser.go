package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"rbeehive/hive/access"
)

// checkBrowser refuses what a web page may have sent through the browser of somebody
// on this machine, who is known by the connection then. A page of evil.example whose
// name was re-bound to 127.0.0.1 is "same origin" to the browser, and only the Host
// header gives it away; a page of another origin writes, or has a GET carried out that
// has effects, and the browser says so.
func (s *Server) checkBrowser(r *http.Request, p *peer, policy *access.Policy) error {
	// A page can only borrow what its browser would be given for the connection alone.
	if !p.tcp || !p.caller.Known && policy.Mode != access.Anyone {
		return nil
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	// Health checkers of load balancers speak HTTP/1.0 without a Host. No browser does, and
	// what is public is the same for everybody.
	if unnamed := r.Host == "" && public(r); !unnamed && !hostAllowed(r.Host, local, s.allowed) {
		return fmt.Errorf("%w: Host %q is neither a loopback name nor in allowed_hosts", errForbiddenHost, r.Host)
	}
	if err := s.origin.Check(r); err != nil {
		return fmt.Errorf("%w refused: %w", errCrossOrigin, err)
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin": // no browser or an old one, its user, and our own page
		return nil
	default:
		if document(r) { // a link to it may stand on any page
			return nil
		}
		return fmt.Errorf("%w refused: it was sent by a page of another site (Sec-Fetch-Site: %s)", errCrossOrigin, truncate(site))
	}
}

// document reports whether a path is of the documentation, which a browser opens
// from anywhere.
func document(r *http.Request) bool {
	switch path := r.URL.EscapedPath(); path {
	case "/", "/openapi.yaml", "/openapi.json", "/docs":
		return true
	default:
		return strings.HasPrefix(path, "/docs/")
	}
}

// isOurName reports whether a name is this machine's, or what the caller reached it by: as
// hive_id rbee's page sends the name of the host that its browser was given.
func (s *Server) isOurName(text string, r *http.Request) bool {
	name := hostname(text)
	if name == "" {
		return false
	}
	machine, err := os.Hostname()
	if name == hostname(r.Host) || err == nil && name == hostname(machine) {
		return true
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return hostAllowed(text, local, s.allowed)
}

func allowedHosts(names []string) map[string]bool {
	allowed := make(map[string]bool, len(names))
	for _, name := range names {
		allowed[hostname(name)] = true
	}
	return allowed
}

// hostname is the name in a Host header, without port, brackets and root dot.
func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// hostAllowed decides about a Host header. local is the address the connection
// came in on: DNS can point a foreign name at us, it cannot make a browser send
// our address as the name. No browser speaks to a unix socket.
func hostAllowed(hostport string, local net.Addr, allowed map[string]bool) bool {
	if _, unix := local.(*net.UnixAddr); unix {
		return true
	}
	name := hostname(hostport)
	if name == "" {
		return false
	}
	if name == "localhost" || allowed[name] {
		return true
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	if addr.Unmap().IsLoopback() {
		return true
	}
	tcp, ok := local.(*net.TCPAddr)
	return ok && tcp.AddrPort().Addr().Unmap() == addr.Unmap()
}
