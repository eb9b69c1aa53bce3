package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/endpoint"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// request asks for the readiness path once. seen is who listened on the port at the
// worker's own address when its owner was looked at; nobody else is asked. answer says for
// a person what came back.
func (p *Prober) request(ctx context.Context, spec store.Spec, port uint16, seen []sockets.Socket, timeout time.Duration) (ok bool, answer string) {
	if spec.Ready.Path == "" {
		return true, "it listens"
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	code, status, err := p.get(ctx, spec, port, seen)
	if err == nil && code == spec.Ready.Status {
		return true, "it answers " + status
	}
	if why := p.otherScheme(ctx, spec, port, seen, code, err); why != "" {
		return false, why
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		answer = fmt.Sprintf("it gives no answer within %s", timeout)
	case err != nil:
		// As it is, a connection that was closed reads "EOF", or "server closed idle connection".
		answer = fmt.Sprintf("it gives no answer (%s)", plain.Clip(err.Error(), maxAnswer))
	default:
		answer = "it answers " + status
	}
	answer += fmt.Sprintf(" to %s, expected %d", spec.BasePath+spec.Ready.Path, spec.Ready.Status)
	if err == nil && code == http.StatusUnauthorized {
		answer += " (hive sends no key: set ready.path to one that needs none)"
	}
	return false, answer
}

// get asks for the readiness path once, of those in seen. It follows no redirects and uses
// no proxy. It closes its connection first, so that the residue (TIME_WAIT) is on its own
// side and not on the worker's port.
func (p *Prober) get(ctx context.Context, spec store.Spec, port uint16, seen []sockets.Socket) (code int, status string, err error) {
	conn, err := p.connect(ctx, spec, port, seen)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	// For this request only: no connection may be reused without the check in dial.
	dial := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	transport := &http.Transport{
		Proxy: nil, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: dial, DialTLSContext: dial,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint.URLOf(spec, port)+spec.Ready.Path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("User-Agent", "hive")
	// Not by http.Client, which would follow a redirect to anywhere.
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // only what lets the connection become idle
		_ = resp.Body.Close()
	}()
	return resp.StatusCode, plain.Clip(resp.Status, maxAnswer), nil
}

// handshakeError: connected, and no TLS came of it.
type handshakeError struct{ error }

func (e handshakeError) Unwrap() error { return e.error }

// connect connects to one of those in seen, by TLS if the spec says so.
func (p *Prober) connect(ctx context.Context, spec store.Spec, port uint16, seen []sockets.Socket) (net.Conn, error) {
	_, addr, _ := strings.Cut(strings.TrimSuffix(endpoint.URLOf(spec, port), spec.BasePath), "://")
	conn, err := p.dial(ctx, "tcp", addr, port, seen)
	if err != nil || !spec.Ready.TLS {
		return conn, err
	}
	host, _, _ := net.SplitHostPort(addr)
	client := tls.Client(conn, &tls.Config{
		ServerName: host, MinVersion: tls.VersionTLS12,
		// A certificate says who is at a name. Here the connection does not leave the machine, and the
		// kernel has said whose the listener is. Most workers have signed theirs themselves, or have one
		// for the name by which others reach them. It is the only certificate that hive does not verify.
		InsecureSkipVerify: true, //nolint:gosec // the listener is the worker's, see above
	})
	if err := client.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, handshakeError{err}
	}
	return client, nil
}

// otherScheme says that the worker speaks TLS where it was asked without, or the other way
// round, after a request that has failed with code or err; empty: nothing suggests that.
func (p *Prober) otherScheme(ctx context.Context, spec store.Spec, port uint16, seen []sockets.Socket, code int, err error) string {
	if failed, ok := errors.AsType[handshakeError](err); ok {
		if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
			return "it answers without TLS: set ready.scheme to http"
		}
		return fmt.Sprintf("no TLS handshake with it (%s): if it serves plain HTTP, set ready.scheme to http", plain.Clip(failed.Error(), maxAnswer))
	}
	// Servers that expect TLS close the connection, send an alert, or answer 400.
	if spec.Ready.TLS || err == nil && code != http.StatusBadRequest {
		return ""
	}
	spec.Ready.TLS = true
	conn, err := p.connect(ctx, spec, port, seen)
	if err != nil {
		return ""
	}
	_ = conn.Close()
	return "it answers TLS: set ready.scheme to https"
}

// dial connects, and gives the connection up if the listeners that can have it are no
// longer those that were seen: the worker may have ended since, and a stranger may
// have its port, who must not get a request. A listener that was there before and
// after the connection was made is the one that has it, unless it shares its port
// (SO_REUSEPORT) with one that came and went in between.
func (p *Prober) dial(ctx context.Context, network, addr string, port uint16, seen []sockets.Socket) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	// After connecting: who listened before and listens now is who has the connection.
	now, err := p.Sockets.Listening(ctx, port)
	// Only listeners that can accept for this address: one beside it does not matter.
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		to := tcp.AddrPort().Addr()
		seen, now = sockets.Accepting(seen, to), sockets.Accepting(now, to)
	}
	if err == nil && !slices.Equal(inodes(seen), inodes(now)) {
		err = errors.New("who listens there has changed")
	}
	if err != nil {
		_ = conn.Close() // nothing was written
		return nil, fmt.Errorf("connected to port %d: %w", port, err)
	}
	return conn, nil
}
