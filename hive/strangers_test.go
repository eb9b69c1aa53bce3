package hive_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
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
	require.Equal(t, errdefs.CodeNotReady, job.Error.Code, job.Error.Message)
	require.Zero(t, asked.Load(), "the stranger was asked")
}

// silentMain is a program that never listens on its port, and whose other ports take
// connections and say nothing, as those of distributed runtimes do.
func silentMain() int {
	for range 4 {
		if _, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	select {} // until it is killed
}

// To ask all other ports of a worker takes no longer than to ask one: else each look
// would be taken for a time in which hive stood still, and none of them counts.
func TestOtherPortsThatSayNothingDoNotStopTheClock(t *testing.T) {
	if testing.Short() {
		t.Skip("long: waits for the looks at ports that say nothing")
	}
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	r := newRig(t, 1, catalog.Entry{
		Name: "silent", Command: []string{self, "silent"},
		Ready: catalog.ReadyEntry{Path: ref("/health"), Stall: ref(3 * time.Second)},
	})
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "silent"})
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	job, err = r.h.WaitJob(ctx, job.JobID)
	require.NoError(t, err)
	require.NotNil(t, job.Error, "it is waited for without end")
	require.Equal(t, errdefs.CodeNotReady, job.Error.Code, job.Error.Message)
}
