package gateway_test

import (
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
)

// stranger accepts what comes, and says what it was sent.
func stranger(t *testing.T, ln net.Listener) (got func() int) {
	t.Helper()
	bytes := make(chan int, 1)
	total := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, _ := conn.Read(make([]byte, 1024))
			_ = conn.Close()
			bytes <- n
		}
	}()
	return func() int {
		_ = ln.Close()
		for {
			select {
			case n := <-bytes:
				total += n
			case <-done:
				select {
				case n := <-bytes:
					total += n
				default:
				}
				return total
			}
		}
	}
}

// Who has taken the port of a worker that died gets nothing, whether or not hive is there to say so.
func TestAStrangerOnThePortOfADeadWorker(t *testing.T) {
	for _, away := range []bool{false, true} {
		w := startWorker(t, "w-1", echo)
		r := newRig(t, w)
		r.hive.away = away
		r.hive.prove = func(string) (wire.Replica, error) { return wire.Replica{}, errors.New("not its own") }
		port := w.port()
		w.dies()
		got := stranger(t, listen(t, port))
		for range 20 {
			resp, text := r.do("POST", chat, `{"model":"m"}`)
			require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, text)
			require.Contains(t, text, "no_replica")
		}
		require.Zero(t, got())
		require.Equal(t, int64(20), r.hive.proven.Load())
	}
}

// A stranger that shares the port of a living worker keeps requests from going there at all.
func TestAStrangerBesideALivingWorker(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	got := stranger(t, listen(t, w.port()))
	for range 20 {
		resp, _ := r.do("POST", chat, `{"model":"m"}`)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	}
	require.Zero(t, got())
	require.Zero(t, w.seen.Load())
	resp, _ := r.do("POST", chat, `{"model":"m"}`)
	require.Equal(t, http.StatusOK, resp.StatusCode, "it has gone")
}

// A worker that listens anew is proven anew, by hive.
func TestAWorkerThatListensAnew(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	r.do("POST", chat, `{"model":"m"}`)
	next := &http.Server{Handler: w.server.Handler, ReadHeaderTimeout: time.Minute}
	second := listen(t, w.port())
	w.dies()
	w.ln, w.server = second, next
	go func() { _ = next.Serve(second) }()
	t.Cleanup(func() { _ = next.Close() })
	r.hive.prove = func(string) (wire.Replica, error) { return w.replica(), nil }
	for range 3 {
		resp, text := r.do("POST", chat, `{"model":"m"}`)
		require.Equal(t, http.StatusOK, resp.StatusCode, text)
	}
	require.Equal(t, int64(1), r.hive.proven.Load())
}

// A replica whose listeners have no cookies cannot be checked, so it is none.
func TestAReplicaWithoutCookies(t *testing.T) {
	w := startWorker(t, "w-1", echo)
	r := newRig(t, w)
	replica := w.replica()
	replica.Listeners[0].Cookie = "0"
	r.table(wire.Route{Name: "m", Names: []string{"m"}, State: "ready", Replicas: []wire.Replica{replica}})
	resp, _ := r.do("POST", chat, `{"model":"m"}`)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Zero(t, w.seen.Load())
}

// A worker that accepts slowly, with a short queue, is busy and no stranger: nobody is refused for it.
func TestAFullQueueOfConnections(t *testing.T) {
	ln := listen(t, 0)
	raw, err := ln.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 5) }))
	require.NoError(t, err)
	w := &worker{t: t, id: "w-1", ln: ln, server: &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(echo)}}
	w.server.SetKeepAlivesEnabled(false)
	go func() { _ = w.server.Serve(slow{ln}) }()
	t.Cleanup(w.dies)
	r := newRig(t, w)
	r.hive.away = true
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			resp, text, err := r.try("POST", chat, `{"model":"m"}`)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%v %s", err, text)
			}
		})
	}
	wg.Wait()
	require.Zero(t, r.hive.proven.Load())
}

// slow takes its time to accept.
type slow struct{ net.Listener }

func (s slow) Accept() (net.Conn, error) {
	time.Sleep(2 * time.Millisecond)
	return s.Listener.Accept()
}
