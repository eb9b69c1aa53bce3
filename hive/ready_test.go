package hive

import (
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc/sockets"
	"rbeehive/store"
	"rbeehive/test/freeport"
)

// The readiness table of docs: what a sequence of sightings adds up to.
func TestJudge(t *testing.T) {
	serves := sighting{listener: ours, probed: true, same: true}
	for name, c := range map[string]struct {
		ready store.Ready
		seen  []sighting
		want  []verdict
	}{
		"serves at once":              {seen: []sighting{serves}, want: []verdict{nowReady}},
		"starts, loads, serves":       {seen: []sighting{{}, {listener: ours, same: true}, serves}, want: []verdict{waitStarting, waitLoading, nowReady}},
		"weak evidence is enough":     {seen: []sighting{{listener: weaklyOurs, probed: true, same: true}}, want: []verdict{nowReady}},
		"listeners changed meanwhile": {seen: []sighting{{listener: ours, probed: true}}, want: []verdict{waitLoading}},
		"a stranger, seen twice":      {seen: []sighting{{listener: foreign}, {listener: foreign}}, want: []verdict{waitUndecided, takenByOther}},
		"a stranger that answers":     {seen: []sighting{{listener: foreign, probed: true, same: true}}, want: []verdict{waitUndecided}},
		"a stranger, seen once":       {seen: []sighting{{listener: foreign}, {}, {listener: foreign}}, want: []verdict{waitUndecided, waitStarting, waitUndecided}},
		"unclear is never a reason":   {seen: []sighting{{listener: unclear}, {listener: unclear}, {listener: unclear}}, want: []verdict{waitUndecided, waitUndecided, waitUndecided}},
		"another port, seen twice":    {seen: []sighting{{searched: true, elsewhere: 9}, {}, {searched: true, elsewhere: 9}}, want: []verdict{waitStarting, waitStarting, onWrongPort}},
		"another port, then its own":  {seen: []sighting{{searched: true, elsewhere: 9}, serves}, want: []verdict{waitStarting, nowReady}},
		"another port for a moment":   {seen: []sighting{{searched: true, elsewhere: 9}, {searched: true}, {searched: true, elsewhere: 9}}, want: []verdict{waitStarting, waitStarting, waitStarting}},
		"total time is over":          {ready: store.Ready{Timeout: time.Second}, seen: []sighting{{}, {at: time.Second}}, want: []verdict{waitStarting, ranOutOfTime}},
		"no progress":                 {ready: store.Ready{Stall: 5 * time.Second}, seen: []sighting{{progress: "a", at: 1}, {progress: "a", at: 5*time.Second + 1}}, want: []verdict{waitStarting, stalledOut}},
		"progress keeps it":           {ready: store.Ready{Stall: 5 * time.Second}, seen: []sighting{{progress: "a"}, {progress: "b", at: 4 * time.Second}, {at: 8 * time.Second}}, want: []verdict{waitStarting, waitStarting, waitStarting}},
		"a freeze is not without progress": {ready: store.Ready{Stall: 20 * time.Second}, seen: []sighting{
			{progress: "a"}, {progress: "a", at: time.Hour}, {progress: "a", at: time.Hour + 15*time.Second}, {progress: "a", at: time.Hour + 30*time.Second},
		}, want: []verdict{waitStarting, waitStarting, waitStarting, stalledOut}},
		"a freeze takes no time": {ready: store.Ready{Timeout: 20 * time.Second}, seen: []sighting{
			{}, {at: 10 * time.Second}, {at: time.Hour}, {at: time.Hour + 9*time.Second}, {at: time.Hour + 10*time.Second},
		}, want: []verdict{waitStarting, waitStarting, waitStarting, waitStarting, ranOutOfTime}},
		"ready beats the end of time":  {ready: store.Ready{Timeout: time.Second}, seen: []sighting{{listener: ours, probed: true, same: true, at: time.Minute}}, want: []verdict{nowReady}},
		"unclear beats nothing either": {ready: store.Ready{Timeout: time.Second}, seen: []sighting{{listener: unclear, at: time.Minute}}, want: []verdict{waitUndecided}},
	} {
		t.Run(name, func(t *testing.T) {
			var f following
			var got []verdict
			for _, s := range c.seen {
				got = append(got, f.judge(s, c.ready))
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Between the look that finds the worker on its port and the request, the worker
// can end and a stranger can take the port. The connection may reach it, a request
// must not.
func TestProbeAsksOnlyWhomItHasSeen(t *testing.T) {
	first, err := freeport.Range(1)
	require.NoError(t, err)
	port := uint16(first)
	h := &Hive{sockets: sockets.NewTable()}
	spec := store.Spec{Host: "127.0.0.1", Ready: store.Ready{Path: "/", Status: 200}}
	listening := func() []sockets.Socket {
		socks, err := h.sockets.Listening(t.Context(), port)
		require.NoError(t, err)
		return socks
	}
	listen := func(host string) net.Listener {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(first)))
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() }) // mostly closed already
		return l
	}

	worker := listen("127.0.0.1")
	seen := listening()
	require.Len(t, seen, 1)
	require.NoError(t, worker.Close())
	var requests atomic.Int32
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) })}
	served := make(chan error, 1)
	l := listen("127.0.0.1")
	go func() { served <- srv.Serve(l) }()
	defer func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}()

	ok, answer := h.probe(t.Context(), spec, port, seen)
	require.False(t, ok)
	require.Contains(t, answer, "who listens there has changed")
	require.Zero(t, requests.Load(), "the stranger was asked")

	seen = listening()
	ok, answer = h.probe(t.Context(), spec, port, seen)
	require.True(t, ok, answer)
	require.Equal(t, int32(1), requests.Load())

	beside := listen("::1")
	ok, answer = h.probe(t.Context(), spec, port, seen)
	require.True(t, ok, "%s: who has come does not get the connections to this address", answer)
	require.NoError(t, beside.Close())
	require.Equal(t, int32(2), requests.Load())
}
