package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/catalog"
	"rbeehive/httpapi/wire"
)

// verbose is a worker that waits for a file, prints more than fits into a narrow
// connection (the job's log shows 20 lines of 16 KiB in all), and fails.
func verbose(file string) int {
	for begun := time.Now(); time.Since(begun) < time.Minute; <-time.After(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			break
		}
	}
	for n := range 40 {
		fmt.Printf("line %d %s\n", n, strings.Repeat(".", 700))
	}
	return 7
}

// slowReader follows a job over TCP and takes a byte a second, or nothing at all.
func (r *rig) slowReader(ctx context.Context, path string, reads bool) error {
	// Before it connects: the window that is offered then is not taken back.
	small := func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 2<<10) })
		return errors.Join(failed, err)
	}
	conn, err := (&net.Dialer{Control: small}).DialContext(ctx, "tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for one := make([]byte, 1); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if reads {
				if _, err := conn.Read(one); err != nil && ctx.Err() == nil {
					return err
				}
			}
		}
	}
}

// Many may listen to a job, and some of them be stuck: the job does not wait for
// them, and neither do the others, who get every event once and in order.
func TestACrowdListensToAJob(t *testing.T) {
	const quick, slow = 280, 20
	self, err := os.Executable()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "go")
	r := newRig(t, rigOptions{narrow: true}, catalog.Entry{Name: "verbose", Command: []string{self, "verbose", file}})
	sub := r.submit(`{"operation":"worker_spawn","worker":"verbose"}`)
	r.awaitWorker("verbose", "starting")
	path := "/v1/jobs/" + sub.JobID + "/events"

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stuck, listening sync.WaitGroup
	failed := make(chan error, slow)
	for n := range slow {
		stuck.Go(func() {
			if err := r.slowReader(ctx, path, n%2 == 0); err != nil {
				failed <- err
			}
		})
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	seen := make([][]wire.Event, quick)
	for n := range quick {
		listening.Go(func() {
			resp, err := client.Get(r.url + path)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			seen[n] = readSSE(t, resp.Body)
		})
	}
	require.Eventually(t, func() bool { return r.active() >= quick+slow }, 30*time.Second, 5*time.Millisecond)
	begun := time.Now()
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	job := decode[wire.Job](t, r.get("/v1/jobs/"+sub.JobID+"?wait=50s", http.StatusOK))
	require.Equal(t, "failed", job.State)
	require.Less(t, time.Since(begun), 10*time.Second, "the job waits for its listeners")
	listening.Wait()
	require.Less(t, time.Since(begun), 20*time.Second, "listeners wait for others")
	last := uint64(len(seen[0]))
	require.Greater(t, last, uint64(20), "with the log")
	for n := range seen {
		require.Equal(t, upTo(0, last), jobSeqs(seen[n]))
		require.Equal(t, "end", seen[n][last-1].Type)
	}
	require.Eventually(t, func() bool { return r.active() == slow }, 10*time.Second, 5*time.Millisecond, "the slow ones still wait for the rest")
	cancel()
	stuck.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}
