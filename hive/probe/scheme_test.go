package probe

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc/sockets"
	"rbeehive/store"
)

// serves lets serve have each connection to a port, and returns the port.
func serves(t *testing.T, serve func(net.Conn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// over answers by HTTP, with TLS or without.
func over(t *testing.T, withTLS bool) (port uint16, config *tls.Config) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/up" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	if withTLS {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return uint16(srv.Listener.Addr().(*net.TCPAddr).Port), srv.TLS
}

// A worker is asked by the scheme of its entry, without a look at its certificate; and who
// looks at it is told when it speaks the other one. It was an EOF.
func TestProbeSpeaksTheSchemeOfTheEntry(t *testing.T) {
	byTLS, config := over(t, true)
	plainly, _ := over(t, false)
	// As uvicorn and cpp-httplib do: what is no TLS is not answered.
	silent := serves(t, func(conn net.Conn) {
		defer conn.Close()
		_ = tls.Server(conn, config).Handshake()
	})
	closes := serves(t, func(conn net.Conn) { _ = conn.Close() })
	// As python3 -m http.server does: it waits for the end of a line.
	waits := serves(t, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) })
	const (
		setHTTP  = "set ready.scheme to http"
		setHTTPS = "it answers TLS: set ready.scheme to https"
	)
	p := &Prober{Sockets: sockets.NewTable()}
	for name, c := range map[string]struct {
		port   uint16
		tls    bool
		path   string
		ok     bool
		answer string
	}{
		"https by https":                      {byTLS, true, "/up", true, "it answers 200 OK"},
		"http by http":                        {plainly, false, "/up", true, "it answers 200 OK"},
		"https by http":                       {byTLS, false, "/up", false, setHTTPS},
		"https by http, without an answer":    {silent, false, "/up", false, setHTTPS},
		"http by https":                       {plainly, true, "/up", false, "it answers without TLS: " + setHTTP},
		"http by https, without an answer":    {waits, true, "/up", false, "no TLS handshake with it (context deadline exceeded): if it serves plain HTTP, " + setHTTP},
		"http that closes, by https":          {closes, true, "/up", false, "if it serves plain HTTP, " + setHTTP},
		"neither":                             {closes, false, "/up", false, "it gives no answer ("},
		"https with another answer":           {byTLS, true, "/", false, "it answers 400 Bad Request to /, expected 200"},
		"http with another answer":            {plainly, false, "/", false, "it answers 400 Bad Request to /, expected 200"},
		"listening is enough, by any of them": {byTLS, false, "", true, "it listens"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := store.Spec{Host: "127.0.0.1", Ready: store.Ready{Path: c.path, Status: 200, TLS: c.tls}}
			seen, err := p.Sockets.Listening(t.Context(), c.port)
			require.NoError(t, err)
			timeout := requestTimeout
			if c.port == waits {
				timeout = 200 * time.Millisecond
			}
			ok, answer := p.request(t.Context(), spec, c.port, seen, timeout)
			require.Equal(t, c.ok, ok, answer)
			require.Contains(t, answer, c.answer)
		})
	}
}

// The worker's name and its address are what it is asked by, as without TLS.
func TestProbeByTLSNamesTheHostOfTheEntry(t *testing.T) {
	var names []string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		names = append(names, r.TLS.ServerName, r.Host)
	}))
	srv.StartTLS()
	defer srv.Close()
	port := uint16(srv.Listener.Addr().(*net.TCPAddr).Port)
	p := &Prober{Sockets: sockets.NewTable()}
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0"} {
		spec := store.Spec{Host: host, Ready: store.Ready{Path: "/", Status: 200, TLS: true}}
		seen, err := p.Sockets.Listening(t.Context(), port)
		require.NoError(t, err)
		ok, answer := p.request(t.Context(), spec, port, seen, requestTimeout)
		require.True(t, ok, answer)
	}
	at := fmt.Sprintf("127.0.0.1:%d", port)
	require.Equal(t, []string{"", at, "localhost", fmt.Sprintf("localhost:%d", port), "", at}, names)
}
