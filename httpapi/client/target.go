package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"

	"rbeehive/httpapi/client/unixsock"
)

// target is one address that a hive may have.
type target struct {
	addr   string // as given
	base   string // URL without a trailing slash
	socket string // path of a unix socket; empty: TCP
	named  bool   // somebody has asked for it
}

// parseAddr reads an address as Options.Addr has it.
func parseAddr(addr string) (target, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if !filepath.IsAbs(path) {
			return target{}, fmt.Errorf("%w %q: unix: takes an absolute path", ErrAddress, addr)
		}
		// The daemon checks Host against loopback names; a socket has none of its own.
		return target{addr: addr, base: "http://localhost", socket: path}, nil
	}
	full := addr
	if !strings.Contains(addr, "://") {
		full = "http://" + addr
	}
	u, err := url.Parse(full)
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "http" && u.Scheme != "https") {
		return target{}, fmt.Errorf("%w %q: want http://host:port, https://host:port or unix:/path", ErrAddress, addr)
	}
	return target{addr: addr, base: strings.TrimRight(u.String(), "/")}, nil
}

// inTheClear reports whether what is sent to t can be read on its way, or by whoever
// has the port: TCP without TLS.
func (t *target) inTheClear() bool { return t.socket == "" && strings.HasPrefix(t.base, "http:") }

// Addr is the address of the hive as it was given; before one of several was found to
// be the hive's, all of them, with commas.
func (c *Client) Addr() string {
	if t := c.chosen.Load(); t != nil {
		return t.addr
	}
	var all []string
	for _, t := range c.targets {
		all = append(all, t.addr)
	}
	return strings.Join(all, ", ")
}

// sendsToken reports whether a request to t carries the token.
func (c *Client) sendsToken(t *target) bool {
	if c.opts.Token == "" {
		return false
	}
	return !c.opts.ImplicitToken || t.socket == "" && (canSeeOwners || !t.inTheClear())
}

// Denied is the first of Options.Addrs that this process's user may not connect to, of
// those that were tried; empty: none.
func (c *Client) Denied() string {
	if t := c.denied.Load(); t != nil {
		return t.addr
	}
	return ""
}

// locate returns the hive's address. Where there are several it blocks until one of them
// has taken a connection, for a dialTimeout each. If none does, the error is that of the
// last one, and of those that this user may not open.
func (c *Client) locate(ctx context.Context) (*target, error) {
	if t := c.chosen.Load(); t != nil {
		return t, nil
	}
	select {
	// A channel and no mutex: who waits for his turn must be able to give up.
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	// Whoever had the turn before may have found it.
	if t := c.chosen.Load(); t != nil {
		return t, nil
	}
	var errs []error
	for i := range c.targets {
		conn, err := c.dial(ctx, &c.targets[i], c.targets[i].hostPort())
		if err == nil {
			c.chosen.Store(&c.targets[i])
			// It was only tried: the transport makes connections, and looks at their listeners, itself.
			return &c.targets[i], conn.Close()
		}
		// A timeout, say, or a stranger's listener: the hive may well be there, and another one
		// must not be taken for it.
		if !absent(err) {
			return nil, err
		}
		denied := errors.Is(err, fs.ErrPermission)
		if denied {
			c.denied.CompareAndSwap(nil, &c.targets[i])
		}
		if denied || i == len(c.targets)-1 {
			errs = append(errs, err)
		}
	}
	return nil, alternatives(errs)
}

// alternatives is several errors in one line.
type alternatives []error

func (a alternatives) Error() string {
	var all []string
	for _, err := range a {
		all = append(all, err.Error())
	}
	return strings.Join(all, "; ")
}

func (a alternatives) Unwrap() []error { return a }

// absent reports whether an error of connect(2) says that no hive of this user's is at
// an address, so that the next one is worth a try.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errForeignDir) ||
		errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ECONNREFUSED)
}

// hostPort is what to dial for a TCP address.
func (t *target) hostPort() string {
	u, err := url.Parse(t.base)
	if err != nil || t.socket != "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		// As net/http does for a URL without one.
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// dialChosen is the transport's; addr is the hive's or that of a proxy.
func (c *Client) dialChosen(ctx context.Context, _, addr string) (net.Conn, error) {
	return c.dial(ctx, c.chosen.Load(), addr) // a request has been made, so there is one
}

func (c *Client) dial(ctx context.Context, t *target, addr string) (net.Conn, error) {
	if t.socket != "" {
		return dialSocket(ctx, t)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addr = net.JoinHostPort(localAddr(host), port)
	if c.guard != nil && t.inTheClear() {
		return c.guard.dial(ctx, addr)
	}
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
}

func dialSocket(ctx context.Context, t *target) (net.Conn, error) {
	// Before anything connects: what a stranger has put there is not even spoken to.
	uids, err := socketKeepers(filepath.Dir(t.socket), t.named)
	if err != nil {
		return nil, err
	}
	name, done, err := unixsock.Reach(t.socket)
	if err != nil {
		return nil, err
	}
	defer done()
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", name)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		// The name of Reach, below /proc/self/fd, would tell nobody which socket it was.
		op.Addr = &net.UnixAddr{Net: "unix", Name: t.socket}
	}
	if err != nil {
		return nil, err
	}
	if err := checkServer(conn.(*net.UnixConn), t, uids); err != nil { // that is what "unix" dials
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// localAddr is the host to dial for one of a URL. A name that means this machine
// must not be asked of anybody, nor lead to ::1, which may be somebody else's; what
// is no address to connect to is loopback to the kernel.
func localAddr(host string) string {
	if isLocalhost(host) {
		return "127.0.0.1"
	}
	switch ip, err := netip.ParseAddr(host); {
	case err != nil || !ip.Unmap().IsUnspecified():
		return host
	case ip.Unmap().Is4():
		return "127.0.0.1"
	}
	return "::1"
}

func isLocalhost(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// Loopback reports whether a host of a URL is this machine's loopback, by itself and
// not by what somebody resolves it to.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(localAddr(host))
	return err == nil && ip.Unmap().IsLoopback()
}

// proxy is the proxy of the environment, but for what stays on this machine. It would
// read a token that goes in the clear.
func (c *Client) proxy(req *http.Request) (*url.URL, error) {
	t := c.chosen.Load()
	if t.socket != "" || Loopback(req.URL.Hostname()) {
		return nil, nil
	}
	proxy, err := http.ProxyFromEnvironment(req)
	if err == nil && proxy != nil && c.sendsToken(t) && t.inTheClear() {
		return nil, fmt.Errorf("%w %s: %s would go through it in clear text", ErrProxy, proxy.Redacted(), "the token for "+t.addr)
	}
	return proxy, err
}
