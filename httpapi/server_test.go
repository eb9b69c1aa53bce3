package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
)

// lockedBuffer is a log's output that a test may read meanwhile.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start serves s on a free port and shuts it down at the end of the test.
func start(t *testing.T, s *httpapi.Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return startOn(t, s, ln)
}

// startOn is start for a listener of one's own.
func startOn(t *testing.T, s *httpapi.Server, ln net.Listener) (addr string) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // a test may have shut it down before
		require.NoError(t, <-served)
	})
	return ln.Addr().String()
}

// A client that sends its header a byte at a time must not hold a connection
// for ever.
func TestSlowLorisIsCutOff(t *testing.T) {
	s := quietServer()
	s.SetTimeouts(100 * time.Millisecond)
	addr := start(t, s)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = io.Copy(io.Discard, conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server kept the connection")
}

// The same with the body.
func TestSlowBodyIsCutOff(t *testing.T) {
	r := newRig(t, rigOptions{limit: 500 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	answer, err := io.ReadAll(conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server kept the connection")
	require.Contains(t, string(answer), "400 Bad Request")
	require.Contains(t, string(answer), "body: was not received completely")
}

func TestHugeHeaderIsRefused(t *testing.T) {
	addr := start(t, quietServer())
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Big: %s\r\n\r\n", bytes.Repeat([]byte("x"), 1<<20))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return // cut off before the answer could be read: refused as well
	}
	defer resp.Body.Close()
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
}

// rbee's keeper polls /health a second after it asked for a shutdown, and kills
// by name whatever answers: the listener closes before anybody is waited for.
func TestShutdownClosesTheListenerFirst(t *testing.T) {
	s := quietServer()
	addr := start(t, s)
	// A request that the server waits for: its header is complete, its body is not.
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /hea")
	require.NoError(t, err)

	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { done <- s.Shutdown(ctx) }()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	}, 5*time.Second, 5*time.Millisecond)
	conn.Close()
	require.NoError(t, <-done)
}

func TestShutdownGivesUpInTime(t *testing.T) {
	s := quietServer()
	addr := start(t, s)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /hea") // never finished
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	err = s.Shutdown(ctx)
	require.Less(t, time.Since(begin), 5*time.Second)
	if err != nil { // nil: the connection was not accepted yet
		require.ErrorIs(t, err, context.Canceled)
	}
}

func TestServeAfterShutdown(t *testing.T) {
	s := quietServer()
	require.NoError(t, s.Shutdown(t.Context()))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, s.Serve(ln))
	_, err = net.Dial("tcp", ln.Addr().String())
	require.Error(t, err)
}

func TestServeReportsABrokenListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.ErrorIs(t, quietServer().Serve(ln), net.ErrClosed)
}
