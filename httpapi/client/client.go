package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	// DefaultAddr is where a hive listens unless it is told otherwise.
	DefaultAddr = "http://127.0.0.1:7835"

	defaultMaxBody = 64 << 20         // bytes of one JSON answer: 1,920 workers are about 2 MiB
	requestTimeout = 30 * time.Second // of one JSON request, answer included
	dialTimeout    = 5 * time.Second
	idleTimeout    = 30 * time.Second
)

// Options says whom a Client talks to.
type Options struct {
	// Addr is http://host:port, https://host:port, host:port or unix:/path; empty: one
	// of Addrs. localhost is 127.0.0.1, as it is to a hive.
	Addr string
	// Addrs are where the hive may be, the likeliest first; none: DefaultAddr. It is at
	// the first that a connection can be made to, and stays there for this Client. A
	// socket that a stranger may have put there is passed over: its directory must
	// belong to root or to this process's user, or be the work of root.
	Addrs []string
	// Token is sent as Authorization: Bearer; empty: no such header. In the clear it goes
	// through no proxy, and on this machine only to a listener of root, of this process's
	// user or of one of TokenUIDs. Where the system does not say whose a listener is
	// (that is, elsewhere than on Linux) it is sent.
	Token string
	// TokenUIDs are further users whose hive may have the token: the owner of its file.
	TokenUIDs []uint32
	// ImplicitToken says that nobody has named the token. Then it is not sent over a unix
	// socket, where none is needed, nor where it cannot be seen whose a listener is.
	ImplicitToken bool
	// RootCAs are what certificates of an https address are judged by; nil: the system's.
	RootCAs *x509.CertPool
	// UserAgent names the program in the daemon's log; empty: "hive-client".
	UserAgent string
	// RecoveryWait is how long a request that is refused because the hive is
	// recovering is tried again; 0: not at all.
	RecoveryWait time.Duration
	// OnRecovering is called before each such wait, on the caller's goroutine; may be nil.
	OnRecovering func(*Error)
}

// Client talks to one hive. It is safe for concurrent use.
type Client struct {
	opts      Options
	targets   []target               // one, or those to choose from
	chosen    atomic.Pointer[target] // the one that is the hive's; nil: none was found yet
	denied    atomic.Pointer[target] // the first that may not be opened
	turn      chan struct{}          // holds one element while one of them is chosen
	guard     *guard                 // keeps the token from strangers; nil: there is none to keep
	http      *http.Client
	transport *http.Transport
	maxBody   int64 // bytes of one JSON answer
}

// New returns a client. It does not connect. An address it cannot use is ErrAddress.
func New(opts Options) (*Client, error) {
	addrs := opts.Addrs
	switch {
	case opts.Addr != "":
		addrs = []string{opts.Addr}
	case len(addrs) == 0:
		addrs = []string{DefaultAddr}
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "hive-client"
	}
	c := &Client{opts: opts, turn: make(chan struct{}, 1), maxBody: defaultMaxBody}
	for _, addr := range addrs {
		t, err := parseAddr(addr)
		if err != nil {
			return nil, err
		}
		c.targets = append(c.targets, t)
	}
	if len(c.targets) == 1 {
		c.targets[0].named = opts.Addr != ""
		// There is nothing to choose: no connection is made only to try it.
		c.chosen.Store(&c.targets[0])
	}
	if opts.Token != "" && canSeeOwners {
		c.guard = newGuard(opts.TokenUIDs)
	}
	c.transport = &http.Transport{
		Proxy:               c.proxy,
		DialContext:         c.dialChosen,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     idleTimeout,
		// A follower of events must see each of them as it is written.
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{RootCAs: opts.RootCAs, MinVersion: tls.VersionTLS12},
	}
	// A hive redirects nowhere: to follow would lead requests to a stranger.
	c.http = &http.Client{
		Transport:     c.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close closes idle connections. Requests under way are not touched.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Reply is an answer of the API: decoded, and as it was sent. Raw also has the
// fields this build does not know.
type Reply[T any] struct {
	Value T
	Raw   json.RawMessage
}

// build makes a request, for each try a new one. The builders are generated from
// the contract (package api).
type build func(server string) (*http.Request, error)

// named is a build for something that the caller names. A dot segment would lead
// to another route, and names nothing.
func named(name string, b build) build {
	if name != "." && name != ".." {
		return b
	}
	return func(string) (*http.Request, error) {
		return nil, &Error{Status: http.StatusNotFound, Code: codeNotFound, Detail: fmt.Sprintf("%q names nothing", name)}
	}
}

// opt is an optional parameter: nil for the zero value.
func opt[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// call sends a request and decodes its JSON answer.
func call[T any](ctx context.Context, c *Client, b build) (Reply[T], error) {
	var reply Reply[T]
	resp, err := c.send(ctx, b, requestTimeout)
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	method, path := resp.Request.Method, resp.Request.URL.Path
	if !isJSON(resp.Header.Get("Content-Type")) {
		return reply, fmt.Errorf("%w: %s returned %s %s with %q instead of JSON", ErrNotAHive, c.Addr(), method, path, resp.Header.Get("Content-Type"))
	}
	// One byte more than may be: a cut answer would be told as broken JSON.
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.maxBody+1))
	if err != nil {
		return reply, c.transportError(ctx, err)
	}
	if int64(len(body)) > c.maxBody {
		return reply, fmt.Errorf("%s %s: %w (more than %d bytes)", method, path, ErrTooLarge, c.maxBody)
	}
	if err := json.Unmarshal(body, &reply.Value); err != nil {
		return reply, fmt.Errorf("decode the response to %s %s: %w", method, path, err)
	}
	reply.Raw = json.RawMessage(bytes.TrimSpace(body))
	return reply, nil
}

// send sends a request until it is not refused because of a recovery. The
// timeout is that of one try; 0: none.
func (c *Client) send(ctx context.Context, b build, timeout time.Duration) (*http.Response, error) {
	deadline := time.Now().Add(c.opts.RecoveryWait)
	for {
		resp, err := c.once(ctx, b, timeout)
		var refused *Error
		if !errors.As(err, &refused) || refused.Code != codeRecovering || !time.Now().Before(deadline) {
			return resp, err
		}
		if c.opts.OnRecovering != nil {
			c.opts.OnRecovering(refused)
		}
		// Not beyond the deadline, so that the last try is made at it.
		if err := sleep(ctx, min(recoveryPause(refused), time.Until(deadline))); err != nil {
			return nil, err
		}
	}
}

// recoveryPause is how long to wait for a recovering hive: what it asks for,
// within limits, so that a wrong header neither spins nor stalls.
func recoveryPause(e *Error) time.Duration {
	return min(max(e.RetryAfter, 100*time.Millisecond), 2*time.Second)
}

// once sends a request once. Every status but 2xx is an *Error.
func (c *Client) once(ctx context.Context, b build, timeout time.Duration) (*http.Response, error) {
	hive, err := c.locate(ctx)
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	// Made again for each try: the body of the one before has been read.
	req, err := b(hive.base + "/")
	if err != nil {
		return nil, err
	}
	if c.sendsToken(hive) {
		req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	}
	cancel := context.CancelFunc(func() {})
	reqCtx := ctx
	if timeout > 0 {
		reqCtx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no response within %s", timeout))
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	resp, err := c.http.Do(req.WithContext(reqCtx))
	if err != nil {
		defer cancel()
		// Do says only that a deadline was exceeded, the cause which one.
		if cause := context.Cause(reqCtx); cause != nil && ctx.Err() == nil {
			err = cause
		}
		return nil, c.transportError(ctx, err)
	}
	// The timeout is for the body, too, and must not be cancelled before that is read.
	resp.Body = &cancelBody{ReadCloser: resp.Body, cancel: cancel}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, problem(resp)
}

// transportError tells a caller who gave up from a daemon that is not there.
func (c *Client) transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// url.Error repeats method and URL, which UnreachableError already names.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	// What was found there is not a hive that is away.
	if stranger, ok := errors.AsType[*UntrustedError](err); ok {
		return stranger
	}
	if errors.Is(err, ErrProxy) {
		return err
	}
	return &UnreachableError{Addr: c.Addr(), Err: err}
}

// cancelBody frees the timer of a request when its body is closed.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
