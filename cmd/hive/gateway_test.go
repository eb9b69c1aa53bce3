package main_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// complete sends a completion to a gateway: the status, or 0 and why there is none.
func complete(gateway, model string) (int, string) {
	resp, err := client().Post(gateway+"/completions", "application/json", strings.NewReader(fmt.Sprintf(`{"model":%q,"prompt":"a b"}`, model)))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// The gateway finds what hive has started, goes on while hive is killed and started again, and knows of
// a stop.
func TestGatewayOfAHiveThatIsKilled(t *testing.T) {
	s := newSite(t, "workers: []\n")
	p := s.start(t)
	gw := s.start(t, "gateway", "--listen", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--hive", "unix:"+filepath.Join(s.dir, "state", "control.sock"))
	status, text := complete(gw.url, "tiny")
	require.Equal(t, http.StatusNotFound, status, text)
	w := p.spawn(`{"operation":"worker_spawn","worker":"cpu","model":"m","name":"tiny","device":0}`)
	answered := func() bool { status, text = complete(gw.url, "tiny"); return status == http.StatusOK }
	require.Eventually(t, answered, testTimeout, 10*time.Millisecond, "the gateway hears of the worker")
	require.Contains(t, text, "a b")

	var asked, failed atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			asked.Add(1)
			if status, text := complete(gw.url, "tiny"); status != http.StatusOK {
				failed.Add(1)
				t.Errorf("%d %s", status, text)
			}
		}
	}()
	for range 3 {
		p.signal(syscall.SIGKILL)
		p.end()
		before := asked.Load()
		require.Eventually(t, func() bool { return asked.Load() > before+10 }, testTimeout, time.Millisecond)
		p = s.start(t)
		before = asked.Load()
		require.Eventually(t, func() bool { return asked.Load() > before+10 }, testTimeout, time.Millisecond)
	}
	close(stop)
	<-done
	require.Zero(t, failed.Load())

	require.NoError(t, syscall.Kill(w.PID, syscall.SIGKILL))
	require.Eventually(t, func() bool { status, text = complete(gw.url, "tiny"); return status == http.StatusNotFound }, testTimeout, 10*time.Millisecond, "the gateway hears of its end")
	gw.signal(syscall.SIGTERM)
	exit, _ := gw.end()
	require.Zero(t, exit, gw.stderr)
}

// What the gateway cannot keep its promises with is refused, and says what was expected.
func TestMistakesOfTheGatewaysCommand(t *testing.T) {
	s := newSite(t, "workers: []\n")
	for args, says := range map[string]string{
		"--listen 0.0.0.0:7840": "expected a loopback address",
		"--listen :7840":        "expected a loopback address",
		"--listen 7840":         "expected host:port",
		"--max-body 0":          "above 0",
		"--max-spool 1":         "at least --max-body",
		"--spool /nonexistent":  "expected a directory on a disk",
		"--spool /dev/null":     "expected a directory",
		"--hive ftp://x":        "",
		"surplus":               "unexpected argument",
	} {
		code, _, stderr := s.command(t, append([]string{"gateway"}, strings.Fields(args)...)...)
		require.Equal(t, 2, code, "%s: %s", args, stderr)
		require.Contains(t, stderr, says)
	}
}
