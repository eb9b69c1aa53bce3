//go:build linux

package attack_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// api is hive's default address.
const api = "127.0.0.1:7835"

// ask is a request that somebody sends, on a connection of its own.
type ask struct {
	Method, Path, Body string
	Header             map[string]string // "Host" is the request's
	At                 string            // host:port, that behind mapped, or the path of a unix socket; empty: api
	TLS                bool
	Timeout            time.Duration // zero: 20 s; what has come by then is the response
}

// reply is what came of it.
type reply struct {
	Status int // 0: no response
	Body   string
	Err    string
	Took   time.Duration
}

func (r reply) refused() bool {
	return r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden
}

func (r reply) String() string { return fmt.Sprintf("%d %.300s %s", r.Status, r.Body, r.Err) }

func get(path string) ask { return ask{Method: http.MethodGet, Path: path} }

// post sends what as JSON.
func post(path string, what any) ask {
	body, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	return ask{Method: http.MethodPost, Path: path, Body: string(body)}
}

// operate submits an operation and waits for its end.
func operate(operation string, fields map[string]any) ask {
	all := map[string]any{"operation": operation}
	for k, v := range fields {
		all[k] = v
	}
	return post("/v1/jobs?wait=15s", all)
}

func (a ask) with(name, value string) ask {
	header := map[string]string{name: value}
	for k, v := range a.Header {
		header[k] = v
	}
	a.Header = header
	return a
}

func (a ask) at(where string) ask { a.At = where; return a }

func (a ask) within(timeout time.Duration) ask { a.Timeout = timeout; return a }

// send sends it from this process.
func (a ask) send() (r reply) {
	begin := time.Now()
	defer func() { r.Took = time.Since(begin) }()
	if a.Timeout == 0 {
		a.Timeout = 20 * time.Second
	}
	if a.At == "" {
		a.At = api
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(a.At, "/") {
		network = "unix"
	}
	scheme := "http"
	if a.TLS {
		scheme = "https"
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { //nolint:gosec // a certificate that the test has made
		if strings.HasPrefix(a.At, mapped) {
			return dialMapped(strings.TrimPrefix(a.At, mapped))
		}
		return (&net.Dialer{}).DialContext(ctx, network, a.At)
	}}
	defer transport.CloseIdleConnections()
	host := strings.TrimPrefix(a.At, mapped)
	if network == "unix" {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, a.Method, scheme+"://"+host+a.Path, strings.NewReader(a.Body))
	if err != nil {
		return reply{Err: err.Error()}
	}
	for name, value := range a.Header {
		req.Header.Set(name, value)
		if name == "Host" {
			req.Host = value
		}
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return reply{Err: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	r = reply{Status: resp.StatusCode, Body: string(body)}
	if err != nil {
		r.Err = err.Error()
	}
	return r
}

// mapped begins an address of IPv4 that is to be reached with a socket of IPv6.
const mapped = "::ffff:"

// dialMapped connects to an address of IPv4 as a program does that only knows IPv6;
// the net package would use IPv4.
func dialMapped(to string) (net.Conn, error) {
	addr, err := net.ResolveTCPAddr("tcp4", to)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), to)
	defer file.Close()
	if err := unix.Connect(fd, &unix.SockaddrInet6{Port: addr.Port, Addr: [16]byte(addr.IP.To16())}); err != nil {
		return nil, err
	}
	return net.FileConn(file)
}

// asker is a program that sends what stands on its standard input.
func asker([]string) int {
	var asks []ask
	if err := json.NewDecoder(os.Stdin).Decode(&asks); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	replies := make([]reply, len(asks))
	for i, a := range asks {
		replies[i] = a.send()
	}
	if err := json.NewEncoder(os.Stdout).Encode(replies); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
