package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (s *site) write(t *testing.T, yaml string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "hive.yaml"), []byte(yaml), 0o600))
}

// sighup sends SIGHUP and waits for what the log says about it.
func (p *process) sighup(says string) {
	p.t.Helper()
	before := strings.Count(p.stderr.String(), says)
	p.signal(syscall.SIGHUP)
	require.Eventually(p.t, func() bool { return strings.Count(p.stderr.String(), says) > before }, testTimeout, 5*time.Millisecond, says)
}

func (p *process) post(path string) (int, string) {
	p.t.Helper()
	resp, err := client().Post(p.url+path, "", nil)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, string(body)
}

func (p *process) stale(w spawned) bool {
	p.t.Helper()
	_, body, err := get(p.url + "/v1/workers/" + w.WorkerID)
	require.NoError(p.t, err)
	var got struct {
		Stale bool `json:"stale"`
	}
	require.NoError(p.t, json.Unmarshal([]byte(body), &got))
	return got.Stale
}

func TestSIGHUP(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	w := p.spawn(spawnCPU)

	s.write(t, "workers: [{name: cpu, nmae: x}]\n")
	p.sighup("SIGHUP: reload failed, nothing was changed")
	require.Contains(t, p.stderr.String(), "unknown key")
	require.False(t, p.stale(w))
	code, body := p.post("/v1/reload")
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, body, `"code":"invalid_configuration"`)
	_, _, printed := s.command(t)
	var problem struct{ Detail string }
	require.NoError(t, json.Unmarshal([]byte(body), &problem))
	require.Equal(t, "hive: "+problem.Detail+"\n", printed, "what hive prints at its start")

	s.write(t, "workers: [{name: cpu, args: [{{.Prot}}]}]\n")
	p.sighup("SIGHUP: reload failed, nothing was changed")
	s.write(t, "workers: [{name: cpu, args: ['{{.Prot}}']}]\n")
	p.sighup("SIGHUP: reload failed, nothing was changed")

	// Whoever asks hive is told, not only who reads systemd's status.
	fault := func() string {
		_, metrics, err := get(p.url + "/metrics")
		require.NoError(t, err)
		_, checks, err := get(p.url + "/v1/doctor")
		require.NoError(t, err)
		return metrics[strings.Index(metrics, "\nhive_reload_failed ")+1:][:len("hive_reload_failed 1")] +
			fmt.Sprint(strings.Contains(checks, "the last reload failed: "))
	}
	require.Equal(t, "hive_reload_failed 1true", fault())

	s.write(t, "shutdown: stop\nhive_id: other\nlog_level: warn\nworkers: [{name: cpu, env: [A=secret]}, {name: new, preset: reference}]\n")
	code, body = p.post("/v1/reload?dry_run=1")
	require.Equal(t, http.StatusOK, code, body)
	require.Contains(t, body, `"applied":["log_level","shutdown"],"need_start":["hive_id"]`)
	require.False(t, p.stale(w))
	require.Equal(t, "hive_reload_failed 1true", fault(), "a dry run is no reload")
	p.sighup("reloaded, except settings that need a restart of hive")
	require.Equal(t, "hive_reload_failed 0false", fault())
	require.NotContains(t, p.stderr.String(), "secret")
	require.True(t, p.stale(w))
	require.True(t, w.answers())
	p.spawn(`{"operation": "worker_spawn", "worker": "new"}`)
	_, body = p.post("/v1/reload?dry_run=1")
	require.Contains(t, body, `"types":[],"workers":[],"autostart":[],"applied":[],"need_start":["hive_id"]`)

	p.signal(syscall.SIGTERM)
	exit, said := p.end()
	require.Equal(t, 0, exit, p.stderr.String())
	require.Equal(t, []string{"stopping 2 workers", "hive stopped; no workers running"}, said, "shutdown: stop was taken over")
	require.False(t, w.answers())
}

// However many come, and when hive stops meanwhile: the end is in order.
func TestManySIGHUPs(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	for range 20 {
		p.signal(syscall.SIGHUP)
	}
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code, p.stderr.String())
}
