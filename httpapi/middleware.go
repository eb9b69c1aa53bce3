package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"rbeehive/hive"
)

// middleware wraps the router from outside: mux runs its own middleware neither
// for 404 nor for 405.
func (s *Server) middleware(next http.Handler) http.Handler {
	return s.observe(s.guardHost(s.guardOrigin(s.gate(next))))
}

// gate answers for a hive that does not serve yet.
func (s *Server) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var st hive.Status
		if h := s.hive.Load(); h != nil {
			st = h.Status()
		}
		if st.Serving {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == "/health" {
			w.Header().Set("Retry-After", "1")
			writeText(w, http.StatusServiceUnavailable, progress(st))
			return
		}
		s.fail(w, r, recoveringError(progress(st)))
	})
}

// recoveringError is hive.ErrRecovering with the progress as its text.
type recoveringError string

func (e recoveringError) Error() string { return string(e) }
func (e recoveringError) Unwrap() error { return hive.ErrRecovering }

// guardHost refuses names that are not ours: a page of evil.example whose name
// was re-bound to 127.0.0.1 is "same origin" to the browser, and only the Host
// header gives it away.
func (s *Server) guardHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if !hostAllowed(r.Host, local, s.allowed) {
			s.fail(w, r, fmt.Errorf("%w: Host %q is neither a loopback name nor in allowed_hosts", errForbiddenHost, r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guardOrigin refuses writes that a web page of another origin sends.
func (s *Server) guardOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := protection.Check(r); err != nil {
			s.fail(w, r, fmt.Errorf("%w refused: %w", errCrossOrigin, err))
			return
		}
		next.ServeHTTP(w, r)
	})
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
