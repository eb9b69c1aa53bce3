package hive_test

import (
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/catalog"
)

// A worker that does not listen on its port is looked for on others. Where it
// listens on one on which a stranger listens too, on another address, the stranger
// is not asked in its place.
func TestTheWorkerIsNotLookedForAtAStrangers(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	elsewhere := strconv.Itoa(int(freeRange(t, 1).First))
	r := newRig(t, 2, catalog.Entry{
		Name: "lost", Command: []string{self, "worker", "--host", "::1", "--port", elsewhere},
		Ready: catalog.ReadyEntry{Path: ref("/health"), Timeout: ref(3 * time.Second)},
	})
	r.open()

	var asked atomic.Int32
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", elsewhere))
	require.NoError(t, err)
	stranger := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = stranger.Serve(l) }()
	t.Cleanup(func() { _ = stranger.Close(); <-done })

	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "lost"})
	require.Equal(t, hive.CodeNotReady, job.Error.Code, job.Error.Message)
	require.Zero(t, asked.Load(), "the stranger was asked")
}
