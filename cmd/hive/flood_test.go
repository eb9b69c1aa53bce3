package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// metric is the value of one of hive's metrics that has no labels.
func (p *process) metric(name string) float64 {
	p.t.Helper()
	code, text, err := get(p.url + "/metrics")
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, code)
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
	require.NotNil(p.t, m, name)
	value, err := strconv.ParseFloat(m[1], 64)
	require.NoError(p.t, err)
	return value
}

func descriptors(t *testing.T, pid int) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	require.NoError(t, err)
	return len(fds)
}

// Ten thousand connections that ask nothing, half of them in the middle of a
// header: hive keeps the newest 2,048 of them, answers all the while, and a stream
// that is followed goes on.
func TestFloodOfIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("long: makes 10,000 connections")
	}
	const spare = 512 // descriptors of the test itself
	var lim syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim)) // the Go runtime has raised it to the hard one
	n := int(min(10_000, lim.Max-spare))
	if n < 10_000 {
		t.Logf("only %d connections: the hard limit of open files is %d", n, lim.Max)
	}
	kept := int(min(2048, lim.Max/4)) // hive inherits the hard limit

	s := newSite(t, "")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	story := make(chan string, 1)
	go func() {
		follower := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := follower.Get(p.url + "/v1/workers/" + w.WorkerID + "/logs?follow=1")
		if err != nil {
			story <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		story <- string(text)
	}()

	goroutines, files := p.metric("go_goroutines"), descriptors(t, p.cmd.Process.Pid)
	var all []net.Conn
	// Each 500 connections: what the garbage collector found alive, and wants to see twice.
	// What the process has, and when it collects, depends on how busy the machine is.
	var memory []float64
	defer func() {
		for _, conn := range all {
			conn.Close()
		}
	}()
	for i := range n {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), patience)
		require.NoError(t, err)
		all = append(all, conn)
		if i%2 == 0 {
			_, _ = io.WriteString(conn, "GET /v1/hive HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") // it may be closed already
		}
		if i%500 == 499 {
			code, _, err := get(p.url + "/v1/hive")
			require.NoError(t, err, "after %d connections", i+1)
			require.Equal(t, http.StatusOK, code)
			require.LessOrEqual(t, descriptors(t, p.cmd.Process.Pid), files+kept+16)
			memory = append(memory, p.metric("go_memstats_next_gc_bytes"))
		}
	}
	require.Eventually(t, func() bool { return p.metric("go_goroutines") <= goroutines+float64(kept+16) }, patience, 10*time.Millisecond)
	t.Logf("%d connections: %d descriptors, memory %.3g", n, descriptors(t, p.cmd.Process.Pid), memory)
	// A quarter is as many as are kept. If the rest cost as much, it would be nearly twice.
	before, after := slices.Max(memory[len(memory)/4:len(memory)/2]), slices.Min(memory[len(memory)-3:])
	require.Less(t, after, 1.3*before, "bytes; the other half must cost nothing")

	require.NoError(t, syscall.Kill(w.PID, syscall.SIGKILL))
	require.Contains(t, <-story, "--- hive: exited", "the stream was cut")
	require.Eventually(t, func() bool { // the newest are there still, the oldest are not
		_ = all[0].SetReadDeadline(time.Now().Add(time.Second))
		_, err := io.ReadAll(all[0])
		return !os.IsTimeout(err)
	}, patience, 10*time.Millisecond)
	fmt.Fprint(all[n-1], "GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
	require.NoError(t, all[n-1].SetReadDeadline(time.Now().Add(patience)))
	answer, err := io.ReadAll(all[n-1])
	require.NoError(t, err)
	require.Contains(t, string(answer), "200 OK")

	p.signal(syscall.SIGINT)
	p.signal(syscall.SIGINT)
	code, _ := p.end()
	require.Equal(t, 0, code, p.stderr.String())
}
