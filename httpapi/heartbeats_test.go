package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/httpapi/wire"
)

// heart reads heartbeats from a stream.
type heart struct {
	*testing.T
	lines *bufio.Scanner
	taken int // bytes
}

func newHeart(t *testing.T, body io.Reader) *heart {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	return &heart{T: t, lines: lines}
}

// next reads one event, of which everything is looked at.
func (h *heart) next() wire.Heartbeat {
	h.Helper()
	var text []string
	for h.lines.Scan() && h.lines.Text() != "" {
		text = append(text, h.lines.Text())
		h.taken += len(h.lines.Text())
	}
	require.NoError(h, h.lines.Err())
	require.Len(h, text, 2, "a heartbeat, and no end")
	require.Equal(h, "event: heartbeat", text[0])
	data, ok := strings.CutPrefix(text[1], "data: ")
	require.True(h, ok)
	var beat wire.Heartbeat
	require.NoError(h, json.Unmarshal([]byte(data), &beat))
	return beat
}

func TestHeartbeats(t *testing.T) {
	r := newRig(t, rigOptions{}, catalog.Entry{Name: "mute", Command: []string{"/bin/sleep", "600"}})
	w := r.spawn("cpu")
	r.do(`{"operation":"worker_spawn","worker":"mute","wait":"started"}`)
	resp := r.open("/v1/heartbeats/stream")
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	beat := newHeart(t, resp.Body).next()
	hostname, err := os.Hostname()
	require.NoError(t, err)
	require.Equal(t, wire.HeartbeatHive{
		ID: "localhost", Hostname: hostname, Port: int(r.cfg.APIPorts[0]), OperationalStatus: "ready", HealthStatus: wire.HeartbeatHealth{Status: "healthy"}, Version: "test",
	}, beat.HiveInfo)
	require.Equal(t, "localhost", beat.HiveID)
	require.EqualValues(t, "telemetry", beat.Type)
	require.WithinDuration(t, time.Now(), time.Time(beat.Timestamp), 20*time.Second)
	require.Len(t, beat.Workers, 1, "the queen sends requests to those it finds here")
	use := beat.Workers[0]
	require.Equal(t, *w.PID, use.PID)
	require.Equal(t, "cpu", use.Group)
	require.Equal(t, strconv.Itoa(int(w.Port)), use.Instance)
	require.Equal(t, "test", *use.Model)
	require.Zero(t, use.GPUPercent)
	require.Positive(t, use.RSSMB)

	require.Len(t, newHeart(t, r.open("/v1/heartbeats/stream?all").Body).next().Workers, 2)
	r.get("/v1/heartbeats/stream?all=perhaps", http.StatusBadRequest)
	head, _ := r.send(http.MethodHead, "/v1/heartbeats/stream", "")
	require.Equal(t, http.StatusOK, head.StatusCode)
}

// Every field is there whatever its value: rbee refuses a heartbeat without one.
func TestHeartbeatsHaveEveryField(t *testing.T) {
	r := newRig(t, rigOptions{}, entry(t, "plain"))
	job := r.do(`{"operation":"worker_spawn","worker":"plain"}`)
	require.Equal(t, "succeeded", job.State, "%+v", job.Error)
	lines := bufio.NewScanner(r.open("/v1/heartbeats/stream").Body)
	for !strings.HasPrefix(lines.Text(), "data: ") {
		require.True(t, lines.Scan())
	}
	var beat map[string]any
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "data: ")), &beat))
	workers, ok := beat["workers"].([]any)
	require.True(t, ok)
	worker, ok := workers[0].(map[string]any)
	require.True(t, ok)
	for _, name := range strings.Fields("pid group instance cpu_pct rss_mb io_r_mb_s io_w_mb_s uptime_s gpu_util_pct vram_mb total_vram_mb model") {
		require.Contains(t, worker, name)
	}
	require.Nil(t, worker["model"])
	require.InDelta(t, 0.0, worker["gpu_util_pct"], 0, "a queen picks a worker by it")
}

// openNarrow opens a stream whose connection holds next to nothing on this side either.
func openNarrow(t *testing.T, url string) io.Reader {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, ReadBufferSize: 1 << 10,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
				err = tcp.SetReadBuffer(4 << 10)
			}
			return conn, err
		},
	}}
	resp, err := client.Get(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp.Body
}

// takeMuch reads several times what narrow connections hold (20 KiB), and returns when the
// last of it was sent.
func (h *heart) takeMuch() (last time.Time) {
	h.Helper()
	for h.taken < 96<<10 {
		last = time.Time(h.next().Timestamp)
	}
	return last
}

// A client that takes nothing for long stays, finds the newest when it reads again, and
// does not hold up the end of the server.
func TestASlowSubscriberStays(t *testing.T) {
	r := newRig(t, rigOptions{narrow: true, heartbeats: time.Millisecond})
	slow := newHeart(t, openNarrow(t, r.url+"/v1/heartbeats/stream"))
	previous := time.Time(slow.next().Timestamp)
	fast := newHeart(t, r.open("/v1/heartbeats/stream").Body)
	for now := fast.takeMuch(); previous.Before(now); {
		at := time.Time(slow.next().Timestamp)
		require.False(t, at.Before(previous), "in order")
		previous = at
	}
	require.Less(t, slow.taken, fast.taken/2, "the oldest were lost, and the connection was not")
}

// impatient is a client's connection that remembers until when it may take.
type impatient struct {
	*httptest.ResponseRecorder
	deadline time.Time
	cancel   func()
	atBeat   *time.Time // the deadline when the first heartbeat was written
}

// SetWriteDeadline is asked for by http.ResponseController.
func (i *impatient) SetWriteDeadline(t time.Time) error {
	i.deadline = t
	return nil
}

// Write ends the request with the first heartbeat.
func (i *impatient) Write(p []byte) (int, error) {
	if i.atBeat == nil && bytes.HasPrefix(p, []byte("event: heartbeat")) {
		at := i.deadline
		i.atBeat = &at
		i.cancel()
	}
	return i.ResponseRecorder.Write(p)
}

// Other answers have 30 s for each write. A queen that is stopped for a minute is to
// find its stream when it goes on.
func TestAHeartbeatMayTakeForEver(t *testing.T) {
	r := newRig(t, rigOptions{heartbeats: time.Millisecond, access: anyone()})
	ctx, cancel := context.WithCancel(t.Context())
	w := &impatient{ResponseRecorder: httptest.NewRecorder(), cancel: cancel}
	req := httptest.NewRequest(http.MethodGet, "http://localhost/v1/heartbeats/stream", nil).WithContext(ctx)
	r.server.Handler().ServeHTTP(w, req)
	require.NotNil(t, w.atBeat)
	require.Zero(t, *w.atBeat)
}

// The server ends although a client takes nothing at all.
func TestAStuckSubscriberDoesNotHoldUpTheEnd(t *testing.T) {
	r := newRig(t, rigOptions{narrow: true, heartbeats: time.Millisecond})
	stuck := newHeart(t, openNarrow(t, r.url+"/v1/heartbeats/stream"))
	stuck.next()
	newHeart(t, r.open("/v1/heartbeats/stream").Body).takeMuch()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, r.server.Shutdown(ctx), "it waits for the one that is stuck")
	r.shut()
	r.begin()
}
