package gateway_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each request goes to the replica with the fewest under way.
func TestReplicasShareTheWork(t *testing.T) {
	free := make(chan struct{})
	slow := func(w http.ResponseWriter, _ *http.Request) { <-free; w.WriteHeader(http.StatusOK) }
	a, b := startWorker(t, "w-1", slow), startWorker(t, "w-2", slow)
	r := newRig(t, a, b)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() { r.do("POST", chat, `{"model":"m"}`) })
		require.Eventually(t, func() bool { return a.seen.Load()+b.seen.Load() == int64(n+1) }, 30*time.Second, time.Millisecond)
	}
	require.Equal(t, int64(4), a.seen.Load())
	require.Equal(t, int64(4), b.seen.Load())
	close(free)
	wg.Wait()
}

// A replica that cannot be reached is passed over; nobody hears of it.
func TestAReplicaThatIsGone(t *testing.T) {
	a, b := startWorker(t, "w-1", echo), startWorker(t, "w-2", echo)
	r := newRig(t, a, b)
	a.dies()
	for range 10 {
		resp, text := r.do("POST", chat, `{"model":"m"}`)
		require.Equal(t, http.StatusOK, resp.StatusCode, text)
	}
	require.Equal(t, int64(10), b.seen.Load())
	b.dies()
	resp, text := r.do("POST", chat, `{"model":"m"}`)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, text, "no_replica")
	require.NotEmpty(t, resp.Header.Get("Retry-After"))
}

// cutsFirst is a worker that drops its first requests.
func cutsFirst(t *testing.T, times int64) *worker {
	t.Helper()
	var seen atomic.Int64
	return startWorker(t, "w-1", func(rw http.ResponseWriter, r *http.Request) {
		if seen.Add(1) <= times {
			panic(http.ErrAbortHandler)
		}
		echo(rw, r)
	})
}

// A request that a living worker has dropped is sent once more, and no more than that.
func TestARequestIsSentTwiceAtMost(t *testing.T) {
	for times, status := range map[int64]int{1: 200, 2: 502, 5: 502} {
		w := cutsFirst(t, times)
		r := newRig(t, w)
		resp, text := r.do("POST", chat, `{"model":"m"}`)
		require.Equal(t, status, resp.StatusCode, text)
		require.Equal(t, int64(2), w.seen.Load(), fmt.Sprint(times))
	}
}

// What changes an engine is not sent twice.
func TestWhatIsNoInferenceIsSentOnce(t *testing.T) {
	w := cutsFirst(t, 1)
	r := newRig(t, w)
	resp, _ := r.do("POST", "/v1/load_lora_adapter", `{"model":"m"}`)
	require.Equal(t, http.StatusBadGateway, resp.StatusCode)
	require.Equal(t, int64(1), w.seen.Load())
}

// net/http repeats what has no body, or a key, by itself: not here.
func TestNothingIsRepeatedByNetHTTP(t *testing.T) {
	var seen atomic.Int64
	w := startWorker(t, "w-1", func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			seen.Add(1)
			panic(http.ErrAbortHandler)
		}
		echo(rw, r)
	})
	r := newRig(t, w)
	for range 3 {
		r.do("GET", "/upstream/m/x", "") // leaves a connection
		resp, _ := r.do("POST", "/upstream/m/v1/unload", "", "Idempotency-Key", "k")
		require.Equal(t, http.StatusBadGateway, resp.StatusCode)
	}
	require.Equal(t, int64(3), seen.Load())
	for _, path := range []string{"/v1/batches", "/upstream/m/slots/0", "/upstream/m/sleep"} {
		before := seen.Load()
		r.do("POST", path, `{"model":"m"}`)
		require.Equal(t, before+1, seen.Load(), path)
	}
}

// A request that kills a worker which had nothing else to do is not given to the next one.
func TestARequestThatKills(t *testing.T) {
	var a, b *worker
	kills := func(w **worker) http.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) {
			_ = (*w).ln.Close()
			panic(http.ErrAbortHandler)
		}
	}
	a = startWorker(t, "w-1", kills(&a))
	b = startWorker(t, "w-2", kills(&b))
	r := newRig(t, a, b)
	resp, text := r.do("POST", chat, `{"model":"m"}`)
	require.Equal(t, http.StatusBadGateway, resp.StatusCode)
	require.Contains(t, text, "worker_failed")
	require.Equal(t, int64(1), a.seen.Load()+b.seen.Load())
}

// Connections go on over new tables, as long as the worker is the same.
func TestConnectionsSurviveATable(t *testing.T) {
	conns := map[string]bool{}
	w := startWorker(t, "w-1", func(_ http.ResponseWriter, r *http.Request) { conns[r.RemoteAddr] = true })
	r := newRig(t, w)
	for range 5 {
		r.do("POST", chat, `{"model":"m"}`)
		r.routed(w)
	}
	require.Len(t, conns, 1)
}
