package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rbeehive/alloc/sockets"
)

// exchange is one request on its way to a worker, and the answer on its way back. It is the transport
// of its own proxy.
type exchange struct {
	g       *Gateway
	begin   time.Time
	body    *body
	want    wanted
	route   string // under which it is counted
	replica string // the worker that was asked last
	tries   int
	written int  // of them, those that may have reached a worker
	stale   int  // of them, those by a connection that had been closed
	cut     bool // the answer ended in the middle
}

// bufferPool is for httputil.ReverseProxy, which takes slices.
type bufferPool struct{ sync.Pool }

var buffers = &bufferPool{sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}}

// Get implements httputil.BufferPool.
func (p *bufferPool) Get() []byte { b, _ := p.Pool.Get().(*[]byte); return *b }

// Put implements httputil.BufferPool.
func (p *bufferPool) Put(b []byte) { p.Pool.Put(&b) }

// notForWorkers are what says who calls, which is nothing to a worker, and what was asked of the gateway.
var notForWorkers = []string{"Authorization", "Cookie", "X-Api-Key", "Proxy-Authorization", "Expect", modelHeader}

// notFromWorkers are what means something to a proxy, or to a browser that has other workers here.
var notFromWorkers = []string{"Set-Cookie", "X-Sendfile", "X-Accel-Redirect", "X-Accel-Buffering", "X-Accel-Charset", "X-Accel-Expires", "X-Accel-Limit-Rate"}

// rewrite makes the request that a worker gets; the replica is not known yet.
func (x *exchange) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host = "http", "worker"
	// As it was sent: an encoded slash stays one.
	p.Out.URL.Path, _ = url.PathUnescape(x.want.path)
	p.Out.URL.RawPath = x.want.path
	for _, name := range notForWorkers {
		p.Out.Header.Del(name)
	}
	p.SetXForwarded()
	p.Out.Host = ""
}

// RoundTrip implements http.RoundTripper: it asks the replicas in turn.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	var failed []error
	tried := map[*replica]bool{}
	for {
		// Anew each time: one that has failed may be gone from the table, or started again.
		list := slices.DeleteFunc(x.g.table.Load().free(x.want.name), func(r *replica) bool { return tried[r] })
		if len(list) == 0 {
			return nil, x.unanswered(failed)
		}
		r := list[0]
		tried[r] = true
		resp, reached, err := x.try(req, r)
		if err == nil {
			return resp, nil
		}
		written := reached == perhaps
		failed = append(failed, fmt.Errorf("%s: %w", x.replica, err))
		if req.Context().Err() != nil {
			return nil, context.Cause(req.Context())
		}
		if written {
			x.written++
		}
		if written && !x.mayTryAgain(req, r) {
			return nil, refuse(http.StatusBadGateway, "worker_failed", "worker %s ended or closed the connection before it answered: %v", x.replica, err)
		}
		// It lives, and may be the only one; or a connection was kept that it had closed, and a new one may do.
		if written || reached == notByThisConnection && x.stale < maxStale {
			tried[r] = false
		}
		if reached == notByThisConnection {
			x.stale++
			r.transport.CloseIdleConnections() // the others are as old
		}
		x.g.metrics.retries.WithLabelValues(x.route).Inc()
	}
}

const (
	maxWritten = 2 // how often a request may reach a worker
	maxStale   = 3 // how often it may meet a connection that its worker had closed before
)

// reached says whether a worker can have got any of a request that has failed.
type reached int

const (
	never               reached = iota // there was no connection
	notByThisConnection                // it had been closed before
	perhaps
)

// mayTryAgain reports whether a request that was written, and not answered, is sent once more.
func (x *exchange) mayTryAgain(req *http.Request, r *replica) bool {
	if x.written >= maxWritten || !inference(req) {
		return false
	}
	if r.inFlight.Load() > 0 { // besides this one, which is not counted any more
		return true
	}
	// Alone in flight: if the worker has died of it, the next one would.
	ctx, cancel := context.WithTimeout(req.Context(), dialTimeout)
	defer cancel()
	conn, err := r.dial(ctx)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// repeatable are the ends of paths that only compute an answer, so that it can be asked for twice. What is
// not here may change the engine.
var repeatable = []string{
	"/chat/completions", "/completions", "/completion", "/infill", "/embeddings", "/embedding", "/embed", "/messages", "/messages/count_tokens",
	"/rerank", "/reranking", "/tokenize", "/detokenize", "/apply-template", "/predict",
	"/audio/transcriptions", "/audio/translations", "/audio/speech", "/images/generations", "/images/edits",
}

// inference reports whether a request only computes an answer.
func inference(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return true
	case http.MethodPost:
		return slices.ContainsFunc(repeatable, func(end string) bool { return strings.HasSuffix(r.URL.Path, end) })
	}
	return false
}

// onceOnly is an empty body that net/http does not know to be empty: it repeats requests without one by
// itself, whatever they do.
type onceOnly struct{}

func (onceOnly) Read([]byte) (int, error) { return 0, io.EOF }
func (onceOnly) Close() error             { return nil }

// unanswered is why no replica was asked, or the last one of several.
func (x *exchange) unanswered(failed []error) error {
	if len(failed) == 0 {
		if route, ok := x.g.table.Load().known[x.want.name]; ok {
			return x.cold(route)
		}
		return x.g.unknown(x.g.table.Load(), x.want.name)
	}
	return refuse(http.StatusServiceUnavailable, "no_replica", "no worker of %q could be reached: %v", x.route, errors.Join(failed...)).again(time.Second)
}

// try sends the request to a replica.
func (x *exchange) try(req *http.Request, r *replica) (resp *http.Response, how reached, err error) {
	p := r.proof.Load()
	x.replica = p.worker
	x.tries++
	r.inFlight.Add(1)
	done := sync.OnceFunc(func() { r.inFlight.Add(-1) })
	defer func() {
		if err != nil {
			done()
		}
	}()
	var wrote, closed atomic.Bool
	out := req.Clone(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		// What the worker had closed before anything was written it cannot have read.
		GotConn:          func(info httptrace.GotConnInfo) { closed.Store(info.Reused && !open(info.Conn)) },
		WroteHeaderField: func(string, []string) { wrote.Store(true) },
	}))
	out.URL.Scheme, out.URL.Host = p.url.Scheme, p.url.Host
	out.URL.Path, out.URL.RawPath = p.url.Path+req.URL.Path, p.url.EscapedPath()+req.URL.RawPath
	x.attach(out, p.engine)
	resp, err = r.transport.RoundTrip(out)
	if err != nil {
		switch {
		case closed.Load():
			how = notByThisConnection
		case wrote.Load():
			how = perhaps
		}
		return nil, how, err
	}
	x.g.metrics.firstByte.WithLabelValues(x.route).Observe(time.Since(x.begin).Seconds())
	if resp.StatusCode == http.StatusSwitchingProtocols {
		rwc, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			done()
			return resp, perhaps, nil
		}
		resp.Body = &upgraded{rwc, done}
		return resp, perhaps, nil
	}
	resp.Body = &answerBody{ReadCloser: resp.Body, ctx: req.Context(), x: x, path: req.URL.Path, events: isEvents(resp), done: done}
	return resp, perhaps, nil
}

// open reports whether the other end has not closed a connection yet.
func open(conn net.Conn) bool {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	return ok && sockets.Open(tcp)
}

// attach gives the request its body, with the model's name as the engine knows it.
func (x *exchange) attach(out *http.Request, engine string) {
	x.body.from, x.body.to, x.body.instead = 0, 0, nil
	x.want.rename(x.body, engine)
	out.GetBody = nil // net/http would send it again by itself
	out.ContentLength, out.TransferEncoding = x.body.length(), nil
	out.Body = onceOnly{}
	if out.ContentLength > 0 {
		out.Body = io.NopCloser(x.body.reader())
	}
}

func isEvents(resp *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return kind == "text/event-stream"
}

// response is what of an answer goes on.
func (x *exchange) response(resp *http.Response) error {
	for _, name := range notFromWorkers {
		resp.Header.Del(name)
	}
	resp.Header.Del(requestID) // the gateway has said it
	return nil
}

// upgraded is a connection that speaks another protocol from now on.
type upgraded struct {
	io.ReadWriteCloser

	done func()
}

func (u *upgraded) Close() error {
	defer u.done()
	return u.ReadWriteCloser.Close()
}

// answerBody is an answer of a worker. If it ends in the middle, a stream of events gets an event that says
// so, in the form on which its clients raise; else the connection is cut.
type answerBody struct {
	io.ReadCloser

	ctx    context.Context //nolint:containedctx // of the request that it answers
	x      *exchange
	path   string
	events bool
	done   func()
	last   []byte // what is still to be read of the event that says so
	over   bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.over {
		return b.rest(p)
	}
	n, err := b.ReadCloser.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	b.x.cut = true
	if b.ctx.Err() != nil {
		return n, err // the client has gone
	}
	b.x.g.log.WithError(err).WithField("replica", b.x.replica).Warn("an answer ended in the middle")
	if !b.events {
		return n, err
	}
	b.over = true
	// An event that was under way is ended by the empty line before it.
	b.last = append([]byte("\n\n"), refuse(http.StatusBadGateway, "worker_failed", "worker %s ended in the middle of its answer", b.x.replica).event(b.path)...)
	if n > 0 {
		return n, nil
	}
	return b.rest(p)
}

func (b *answerBody) rest(p []byte) (int, error) {
	n := copy(p, b.last)
	if b.last = b.last[n:]; len(b.last) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (b *answerBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}
