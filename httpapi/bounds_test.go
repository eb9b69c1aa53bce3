package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/httpapi"
)

func readAll(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	answer, err := io.ReadAll(conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server kept the connection")
	return string(answer)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(addr, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// isClosed waits until the server has closed a connection.
func isClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	readAll(t, conn)
}

// isOpen shows that the server has not closed a connection on which nothing is read.
func isOpen(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the server closed the connection")
}

// bounded is a server with at most n connections whose handler holds every
// request but /quick until the test ends.
func bounded(t *testing.T, n int) (addr string, entered chan struct{}, active func() int) {
	t.Helper()
	log, _ := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, MaxConnections: n})
	entered = make(chan struct{}, 100)
	release := make(chan struct{})
	s.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		entered <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	active = s.CountActive()
	addr = start(t, s)
	t.Cleanup(func() { close(release) })
	return addr, entered, active
}

func get(conn net.Conn, path string) {
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
}

// The one that has waited longest goes: the loris that sends its header for ever
// counts from when it came, a kept connection from when it was used last.
func TestTooManyConnectionsDriveOutTheOldestIdle(t *testing.T) {
	addr, entered, active := bounded(t, 3)
	busy := dial(t, addr)
	get(busy, "/slow")
	<-entered
	kept := dial(t, addr)
	get(kept, "/quick")
	resp, err := http.ReadResponse(bufio.NewReader(kept), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Eventually(t, func() bool { return active() == 1 }, 10*time.Second, time.Millisecond, "it is idle")
	loris := dial(t, addr)
	_, err = io.WriteString(loris, "GET /slow HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	require.NoError(t, err)
	isOpen(t, loris)

	fourth := dial(t, addr)
	isClosed(t, kept)
	isOpen(t, loris)
	fifth := dial(t, addr)
	isClosed(t, loris)
	get(fourth, "/slow")
	<-entered
	get(fifth, "/slow")
	<-entered

	// All have a request now: the new one goes.
	sixth := dial(t, addr)
	isClosed(t, sixth)
	for _, conn := range []net.Conn{busy, fourth, fifth} {
		isOpen(t, conn)
	}
	// One that ends makes room.
	fourth.Close()
	require.Eventually(t, func() bool {
		seventh := dial(t, addr)
		get(seventh, "/quick")
		_ = seventh.SetReadDeadline(time.Now().Add(5 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(seventh), nil)
		seventh.Close()
		return err == nil && resp.StatusCode == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond)
}

// heap is what is allocated after a collection, in bytes.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// endless sends a body until the server has had enough.
func endless(conn net.Conn, chunked bool) (sent int64) {
	block := make([]byte, 64<<10)
	for i := range block {
		block[i] = ' '
	}
	for sent < 1<<30 {
		var err error
		if chunked {
			_, err = fmt.Fprintf(conn, "%x\r\n%s\r\n", len(block), block)
		} else {
			_, err = conn.Write(block)
		}
		if err != nil {
			return sent
		}
		sent += int64(len(block))
	}
	return sent
}

// A body of 1 GiB costs neither memory nor the time to send it.
func TestHugeBodies(t *testing.T) {
	r := newRig(t, rigOptions{})
	for name, header := range map[string]string{"Content-Length": "Content-Length: 1073741824", "chunked": "Transfer-Encoding: chunked"} {
		conn := dial(t, r.url)
		before := heap()
		answers := make(chan string, 1)
		go func() {
			raw, _ := io.ReadAll(conn) // how it is cut off does not matter
			answers <- string(raw)
		}()
		fmt.Fprintf(conn, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", header)
		sent := endless(conn, name == "chunked")
		require.Less(t, sent, int64(64<<20), "%s: it was read", name) // some fills the kernel's buffers
		answer := <-answers
		require.Contains(t, answer, "413 Request Entity Too Large", name)
		require.Contains(t, answer, `"code":"too_large"`, name)
		require.Less(t, heap(), before+4<<20, name)
	}
	require.Contains(t, r.get("/v1/jobs", http.StatusOK), `"jobs":[]`)
}

// A client that asks first is told before it sends anything.
func TestHugeBodyIsRefusedBeforeItIsSent(t *testing.T) {
	r := newRig(t, rigOptions{})
	conn := dial(t, r.url)
	fmt.Fprint(conn, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1048577\r\n\r\n")
	answer := readAll(t, conn)
	require.True(t, strings.HasPrefix(answer, "HTTP/1.1 413 "), answer)
	require.NotContains(t, answer, "100 Continue")
	require.Contains(t, answer, "Connection: close")
}

// A refusal does not wait for a body either.
func TestUnauthorizedBodyIsNotRead(t *testing.T) {
	log, _ := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, Access: &access.Policy{Mode: access.ByToken}})
	conn := dial(t, start(t, s))
	fmt.Fprint(conn, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
	answer := readAll(t, conn) // and not after the read limit
	require.True(t, strings.HasPrefix(answer, "HTTP/1.1 401 "), answer)
}

// What a hostile page or a careless client sends, over a real connection. Everybody
// is let in: a client that has closed its side is not known.
func TestHostileRequests(t *testing.T) {
	r := newRig(t, rigOptions{access: anyone()})
	form := "operation=worker_spawn"
	job := `{"operation":"hive_check"}`
	for _, tt := range []struct{ name, request, status, says string }{
		{"form of another origin", "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n" +
			"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + fmt.Sprint(len(form)) + "\r\n\r\n" + form, "403", "cross_origin"},
		{"JSON as text/plain of another origin", "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n" +
			"Content-Type: text/plain\r\nContent-Length: " + fmt.Sprint(len(job)) + "\r\n\r\n" + job, "403", "cross_origin"},
		{"a name bound to us", "POST /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n" +
			"Content-Length: " + fmt.Sprint(len(job)) + "\r\n\r\n" + job, "403", "forbidden_host"},
		{"dots", "GET /v1/../v1/hive HTTP/1.1\r\nHost: localhost\r\n\r\n", "404", "not_found"},
		{"encoded dots", "GET /v1/%2e%2e/v1/hive HTTP/1.1\r\nHost: localhost\r\n\r\n", "404", "not_found"},
		{"encoded slash", "GET /v1%2Fhive HTTP/1.1\r\nHost: localhost\r\n\r\n", "404", "not_found"},
		{"encoded slash in an id", "GET /v1/workers/..%2F..%2Fetc%2Fpasswd/logs HTTP/1.1\r\nHost: localhost\r\n\r\n", "404", "not_found"},
		{"no Host", "GET /v1/hive HTTP/1.1\r\n\r\n", "400", "missing required Host header"},
		{"two Hosts", "GET /v1/hive HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", "400", ""},
		{"HTTP/1.0 without Host", "GET /v1/hive HTTP/1.0\r\n\r\n", "403", "forbidden_host"},
		{"a health check without Host", "GET /health HTTP/1.0\r\n\r\n", "200", "ok"},
		{"a health check of a name bound to us", "GET /health HTTP/1.0\r\nHost: evil.example\r\n\r\n", "403", "forbidden_host"},
		{"haproxy's check unless it is told a path", "OPTIONS / HTTP/1.0\r\n\r\n", "204", ""},
		{"a check with an empty Host", "HEAD /health HTTP/1.1\r\nHost:\r\n\r\n", "200", ""},
		{"a check by a page", "GET /health HTTP/1.0\r\nSec-Fetch-Site: cross-site\r\n\r\n", "403", "cross_origin"},
		{"more than a check without Host", "POST /v1/reload HTTP/1.0\r\nContent-Length: 0\r\n\r\n", "403", "forbidden_host"},
		{"HTTP/1.0", "GET /v1/hive HTTP/1.0\r\nHost: localhost\r\n\r\n", "200", "hive_id"},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "403", "forbidden_host"},
		{"proxy request", "GET http://evil.example/v1/hive HTTP/1.1\r\nHost: localhost\r\n\r\n", "403", "forbidden_host"},
		{"CONNECT", "CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n", "404", "not_found"},
		{"two lengths", "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", "400", ""},
		{"large headers", "GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", "431", ""},
	} {
		conn := dial(t, r.url)
		_, _ = io.WriteString(conn, tt.request) // of a large one not all is taken
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		answer := readAll(t, conn)
		status, _, _ := strings.Cut(answer, "\r\n")
		require.Regexp(t, "^HTTP/1\\.[01] "+tt.status, status, tt.name)
		require.Contains(t, answer, tt.says, tt.name)
		require.NotContains(t, answer, "\nLocation:", tt.name)
	}
	require.Contains(t, r.get("/v1/jobs", http.StatusOK), `"jobs":[]`, "nothing has happened")
}
