package httpapi_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi"
	"rbeehive/test/skip"
)

// dialTCPAs connects as another user.
func dialTCPAs(t *testing.T, uid int, addr string) net.Conn {
	t.Helper()
	skip.UnlessRoot(t, "only root can be another user")
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return c.Control(func(fd uintptr) { err = unix.Fchown(int(fd), uid, uid) })
	}}
	conn, err := d.DialContext(context.Background(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Strangers drive out themselves, whatever they do, and one of them not the others
// before their own; who has rights is served all the while.
func TestStrangersDriveOutThemselves(t *testing.T) {
	log, _ := captureLog()
	const most = 16
	s := httpapi.New(httpapi.Options{Log: log, MaxConnections: most, Access: admins(admin)})
	addr := start(t, s)
	var floods []net.Conn
	polite := dialTCPAs(t, reader, addr) // has no rights here either, and has one connection
	fmt.Fprint(polite, "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	for i := range 8 * most {
		conn := dialTCPAs(t, stranger, addr)
		switch i % 4 {
		case 0: // a header that does not end
			fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		case 1: // a request that is answered, on a connection that is kept
			fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
		case 2: // a body that does not come
			fmt.Fprint(conn, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
		}
		floods = append(floods, conn)
		if i%8 != 0 {
			continue
		}
		for _, uid := range []int{admin, os.Geteuid()} {
			boss := dialTCPAs(t, uid, addr)
			fmt.Fprint(boss, "GET /v1/hive HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			require.Contains(t, readAll(t, boss), `"code":"recovering"`, "served, after %d", i)
		}
	}
	isOpen(t, polite)
	isClosed(t, floods[0])
}

// A request of a stranger that is being answered holds no place either.
func TestStrangersWithRequestsUnderWay(t *testing.T) {
	log, _ := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, MaxConnections: 8, Access: admins(admin)})
	release := make(chan struct{})
	h := s.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" { // as one that is stuck in its answer
			<-release
		}
	}))
	s.SetHandler(h)
	addr := start(t, s)
	t.Cleanup(func() { close(release) })
	for range 32 {
		fmt.Fprint(dialTCPAs(t, stranger, addr), "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) { return dialTCPAs(t, admin, addr), nil },
	}}
	for range 8 {
		resp, err := client.Get("http://" + addr + "/v1/hive")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
}
