package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/endpoint"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// request asks for the readiness path once. seen is who listened on the port at the
// worker's own address when its owner was looked at; nobody else is asked. It follows no redirects and uses
// no proxy. It closes its connection first, so that the residue (TIME_WAIT) is on
// its own side and not on the worker's port.
func (p *Prober) request(ctx context.Context, spec store.Spec, port uint16, seen []sockets.Socket, timeout time.Duration) (ok bool, answer string) {
	if spec.Ready.Path == "" {
		return true, "it listens"
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// For this request only: no connection may be reused without the check in dial.
	transport := &http.Transport{
		Proxy: nil, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return p.dial(ctx, network, addr, port, seen)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint.HTTP(spec.Host, port)+spec.Ready.Path, nil)
	if err != nil {
		return false, err.Error()
	}
	req.Header.Set("User-Agent", "hive")
	// Not by http.Client, which would follow a redirect to anywhere.
	resp, err := transport.RoundTrip(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return false, fmt.Sprintf("it gives no answer within %s", timeout)
	}
	if err != nil {
		return false, plain.Clip(err.Error(), maxAnswer)
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // only what lets the connection become idle
		_ = resp.Body.Close()
	}()
	return resp.StatusCode == spec.Ready.Status, "it answers " + plain.Clip(resp.Status, maxAnswer)
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
