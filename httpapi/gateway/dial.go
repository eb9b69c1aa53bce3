package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"rbeehive/alloc/sockets"
)

const (
	dialTimeout  = 5 * time.Second
	proveTimeout = 3 * time.Second // of hive's word on other listeners than the known ones
	// idleTimeout is shorter than that of the servers that are known to end idle connections first (uvicorn: 5 s).
	idleTimeout = 4 * time.Second
	// idlePerReplica is how many connections stay open that no request uses.
	idlePerReplica = 256
)

var (
	// errUnproven is a connection that was not made, because who listens there is not proven to be the worker.
	errUnproven  = errors.New("who listens there is not proven to be the worker")
	errNoCookies = errors.New("hive does not know the cookies of its listeners (sock_diag does not answer), so that no connection to it can be checked")
)

// replica is a worker of a table, with the connections to it. It is of one proof as long as it is in
// tables; a newer proof by hive of the same sockets changes nothing.
type replica struct {
	g         *Gateway
	proof     atomic.Pointer[proof]
	transport *http.Transport
	inFlight  atomic.Int64
	proving   singleflight.Group
}

func (g *Gateway) newReplica(p *proof) *replica {
	r := &replica{g: g}
	r.proof.Store(p)
	r.transport = &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return r.dial(ctx) },
		MaxIdleConnsPerHost: idlePerReplica, IdleConnTimeout: idleTimeout,
		DisableCompression: true, // what the worker sends is passed on as it is
		// A certificate says who is at a name. Here the connection does not leave the machine, and the
		// kernel has said whose the listener is; see docs/security.md.
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}, //nolint:gosec // see above
	}
	return r
}

// dial connects to the worker and to nobody else. Where others listen than those that are known, hive
// is asked once to prove anew.
func (r *replica) dial(ctx context.Context) (net.Conn, error) {
	conn, err := r.dialProven(ctx, r.proof.Load())
	if !errors.Is(err, errUnproven) {
		return conn, err
	}
	r.g.metrics.unproven.Inc()
	p, proveErr := r.prove(ctx)
	if proveErr != nil {
		return nil, errors.Join(err, proveErr)
	}
	return r.dialProven(ctx, p)
}

// prove has hive prove the listeners anew, once for all who ask at the same time.
func (r *replica) prove(ctx context.Context) (*proof, error) {
	result := r.proving.DoChan("", func() (any, error) {
		// Nothing of the caller's context: others wait for it, too, and its trace is of another request.
		ctx, cancel := context.WithTimeout(context.Background(), proveTimeout)
		defer cancel()
		reply, err := r.g.hive.ProveReplica(ctx, r.proof.Load().worker)
		if err != nil {
			return nil, err
		}
		p, err := newProof(reply.Value)
		if err == nil {
			r.proof.Store(p)
			r.transport.CloseIdleConnections() // they were of other sockets
		}
		return p, err
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case res := <-result:
		p, _ := res.Val.(*proof)
		return p, res.Err
	}
}

// dialProven connects, and gives the connection up, without having written anything, unless who has it
// is in the proof. Of a worker whose queue of connections is full the kernel knows no other end yet,
// which says nothing about strangers: that is tried again for a while.
func (r *replica) dialProven(ctx context.Context, p *proof) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		conn, err := r.dialOnce(ctx, p)
		if !errors.Is(err, sockets.ErrNoPeer) || !pause(ctx, wait) {
			return conn, err
		}
	}
}

// dialOnce is one try of dialProven.
func (r *replica) dialOnce(ctx context.Context, p *proof) (net.Conn, error) {
	to, err := p.dialled()
	if err != nil {
		return nil, err
	}
	if err := r.listening(ctx, p, to); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	// A listener that was there before and after is the one that has the connection, unless it shares its port
	// with one that came and went in between: so the other end itself is looked at, too.
	if err = r.listening(ctx, p, to); err == nil {
		err = otherEnd(ctx, p, conn)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// listening demands that all who can be given a connection to an address are in the proof.
func (r *replica) listening(ctx context.Context, p *proof, to netip.AddrPort) error {
	all, err := r.g.sockets.Listening(ctx, to.Port())
	if err != nil {
		return fmt.Errorf("%w: %w", errUnproven, err)
	}
	takers := sockets.Accepting(all, to.Addr())
	if len(takers) == 0 {
		return fmt.Errorf("nobody listens at %s", to)
	}
	for _, s := range takers {
		if !p.cookies[s.Cookie] {
			return fmt.Errorf("%w: another socket listens at %s", errUnproven, s.Local)
		}
	}
	return nil
}

// otherEnd demands that the other end of a connection was made where the listeners were.
func otherEnd(ctx context.Context, p *proof, conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errUnproven
	}
	if to, ok := conn.RemoteAddr().(*net.TCPAddr); ok && !to.AddrPort().Addr().Unmap().IsLoopback() {
		return nil // of another address of this machine: it has only the two looks
	}
	end, err := sockets.ServerOf(ctx, tcp)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errUnproven, err)
	// 0: the kernel does not say.
	case end.CgroupID != 0 && !p.cgroups[0] && !p.cgroups[end.CgroupID]:
		return fmt.Errorf("%w: the other end belongs to another cgroup", errUnproven)
	}
	return nil
}
