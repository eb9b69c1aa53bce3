package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// guard decides who may call. Without a token it keeps web pages out, which reach
// a loopback address through the browser of whoever sits here. With one a request
// over TCP must carry it: no page knows it, so Host and origin prove nothing more,
// and behind a reverse proxy they are not ours to judge. A unix socket is guarded
// by its file mode, and no browser speaks to one.
func (s *Server) guard(next http.Handler) http.Handler {
	open := s.guardHost(s.guardOrigin(next))
	if s.opts.Token == "" {
		return open
	}
	want := sha256.Sum256([]byte(s.opts.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if overUnixSocket(r) {
			open.ServeHTTP(w, r)
			return
		}
		if err := s.authenticate(r, want); err != nil && !public(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			s.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authenticate wants the token whose SHA-256 is want. Sums are compared, so that
// neither the length nor a prefix can be measured.
func (s *Server) authenticate(r *http.Request, want [sha256.Size]byte) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return fmt.Errorf("%w: send the header `Authorization: Bearer TOKEN` with the token in %s on hive's machine", errUnauthorized, s.opts.TokenFile)
	}
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return fmt.Errorf("%w: the token is not the one in %s on hive's machine", errUnauthorized, s.opts.TokenFile)
	}
	return nil
}

// public reports whether a path says nothing of the hive's state but that it is
// there. It looks at the path as the router does: encoded, and not cleaned.
func public(r *http.Request) bool {
	switch path := r.URL.EscapedPath(); path {
	case "/", "/health", "/openapi.yaml", "/openapi.json", "/docs":
		return true
	default:
		return strings.HasPrefix(path, "/docs/")
	}
}

// refuse answers without reading the body, and ends the connection: net/http would
// read what is left, for the sake of the next request, and keep the connection
// among those that have one for as long as that takes.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	}
	s.fail(w, r, err)
}

// boundBody refuses a body that says itself that it is too large. One that does
// not say is cut off where it is read.
func (s *Server) boundBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxBodyBytes {
			s.refuse(w, r, &http.MaxBytesError{Limit: maxBodyBytes})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func overUnixSocket(r *http.Request) bool {
	_, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	return unix
}

type peerKey struct{}

// withPeer is the server's ConnContext: it remembers whose process connected.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(c)
	if err != nil { // gone already, or a system that does not tell
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// peerOf is the user whose process sends the request; nil if that is not known,
// as over TCP.
func peerOf(r *http.Request) *uint32 {
	uid, ok := r.Context().Value(peerKey{}).(uint32)
	if !ok {
		return nil
	}
	return &uid
}

var errNoPeer = errors.New("this system does not tell who connected")

// guardHost refuses names that are not ours: a page of evil.example whose name
// was re-bound to 127.0.0.1 is "same origin" to the browser, and only the Host
// header gives it away.
func (s *Server) guardHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if !hostAllowed(r.Host, local, s.allowed) {
			s.refuse(w, r, fmt.Errorf("%w: Host %q is neither a loopback name nor in allowed_hosts", errForbiddenHost, r.Host))
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
			s.refuse(w, r, fmt.Errorf("%w refused: %w", errCrossOrigin, err))
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
