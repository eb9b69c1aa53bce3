package httpapi_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
)

// Over TLS clients are offered HTTP/2, and must get it, also from a server whose
// first listener is a unix socket. A connection is not closed while a request is on it.
func TestHTTP2(t *testing.T) {
	own := httptest.NewTLSServer(nil) // for its certificate, and a client that trusts it
	own.Close()
	log, _ := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, Certificate: &own.TLS.Certificates[0], MaxConnections: 2})
	entered, release := make(chan struct{}, 1), make(chan struct{})
	s.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-release
		}
		w.Header().Set("Served", r.Proto)
	}))
	served := make(chan error, 2)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
		require.NoError(t, <-served)
		require.NoError(t, <-served)
	})

	path := filepath.Join(t.TempDir(), "s")
	socket, err := net.Listen("unix", path)
	require.NoError(t, err)
	go func() { served <- s.Serve(socket) }()
	local := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", path)
	}}}
	resp, err := local.Get("http://localhost/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "HTTP/1.1", resp.Header.Get("Served"))

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { served <- s.Serve(ln) }()
	roots := own.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	remote := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	slow := make(chan error, 1)
	go func() {
		resp, err := remote.Get("https://" + ln.Addr().String() + "/slow")
		if err == nil {
			err = resp.Body.Close()
		}
		slow <- err
	}()
	select {
	case <-entered:
	case err := <-slow:
		t.Fatal(err)
	}
	for range 4 {
		dial(t, ln.Addr().String())
	}
	resp, err = remote.Get("https://" + ln.Addr().String() + "/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "HTTP/2.0", resp.Header.Get("Served"))
	close(release)
	require.NoError(t, <-slow)
}
