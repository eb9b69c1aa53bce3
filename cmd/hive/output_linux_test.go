package main_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	hive "rbeehive/cmd/hive"
)

// into starts a hive that says everything into a pipe, and waits until it serves.
func (s *site) into(t *testing.T) (p *process, r *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	_, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
	require.NoError(t, err)
	port := freePort(t)
	p = &process{t: t, cmd: s.program([]string{"--port", strconv.Itoa(port), "--log-level", "info"}), url: "http://127.0.0.1:" + strconv.Itoa(port)}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	require.NoError(t, p.cmd.Start())
	require.NoError(t, w.Close())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // mostly gone already
		_ = p.cmd.Wait()
	})
	require.Eventually(t, func() bool { code, _, err := get(p.url + "/health"); return err == nil && code == http.StatusOK }, testTimeout, 5*time.Millisecond)
	return p, r
}

func (p *process) asked(n int) {
	p.t.Helper()
	for range n {
		code, body, err := get(p.url + "/v1/workers")
		require.NoError(p.t, err)
		require.Equal(p.t, http.StatusOK, code, body)
	}
}

// exits waits for the end after SIGTERM.
func (p *process) exits() (code int) {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { defer close(done); _ = p.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(testTimeout):
		p.t.Fatal("it does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// It was dead of SIGPIPE with the next line of its log.
func TestTheReaderOfTheOutputIsGone(t *testing.T) {
	p, r := newSite(t, "").into(t)
	_, err := io.ReadFull(r, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	p.asked(20)
	_, metrics, err := get(p.url + "/metrics")
	require.NoError(t, err)
	require.NotContains(t, metrics, "\nhive_log_lines_dropped_total 0\n")
	require.Contains(t, metrics, "\nhive_log_lines_dropped_total ")
	require.Equal(t, 0, p.exits())
}

// Every request waited for the pipe, and SIGTERM did, too.
func TestNobodyReadsTheOutput(t *testing.T) {
	p, r := newSite(t, "").into(t)
	p.asked(100) // some 20 KiB
	require.Equal(t, 0, p.exits())
	said, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NotEmpty(t, said)
}

// Who reads again gets what was kept, and is told of the rest.
func TestWhoReadsAgainIsTold(t *testing.T) {
	p, r := newSite(t, "").into(t)
	p.asked(100)
	var said bytes.Buffer
	done := make(chan error, 1)
	go func() { _, err := io.Copy(&said, r); done <- err }()
	require.Equal(t, 0, p.exits())
	require.NoError(t, <-done)
	require.GreaterOrEqual(t, strings.Count(said.String(), "route=/v1/workers"), 100, "none was lost: there was room")
	require.Contains(t, said.String(), "hive stopped")
}

// stuck is a stream that takes nothing until it is let.
type stuck struct {
	let  chan struct{}
	said bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.let
	return s.said.Write(p)
}

func TestOutput(t *testing.T) {
	s := &stuck{let: make(chan struct{})}
	o := hive.NewOutput(s)
	told := make(chan uint64, 8)
	o.OnResumed(func(lost uint64) { told <- lost })
	line := []byte(strings.Repeat("x", 99) + "\n")
	for range hive.MaxOutputLines + 100 {
		n, err := o.Write(line)
		require.NoError(t, err)
		require.Len(t, line, n)
	}
	line[0] = 'y' // the caller's own again
	lost := o.Lost()
	require.GreaterOrEqual(t, lost, uint64(99), "one is being written, and one may have been taken")
	close(s.let)
	require.Equal(t, lost, <-told)
	o.Finish(testTimeout)
	require.Equal(t, hive.MaxOutputLines+100-int(lost), strings.Count(s.said.String(), "\n"))
	require.NotContains(t, s.said.String(), "y")

	// However few lines: their bytes count, too.
	big := &stuck{let: make(chan struct{})}
	o = hive.NewOutput(big)
	for range 10 {
		_, err := o.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NotZero(t, o.Lost())
	o.Finish(time.Millisecond) // comes back
	close(big.let)
}
