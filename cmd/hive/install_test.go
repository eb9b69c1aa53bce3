package main_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// An installation counts at once, and does not take over the edits of a hive.yaml
// that somebody is at.
func TestInstallReadsTypesOnly(t *testing.T) {
	s := newSite(t, "")
	socket := filepath.Join(s.dir, "s")
	s.env = append(s.env, "HIVE_PORT=", "HIVE_LISTEN=127.0.0.1:0,unix:"+socket)
	p := s.start(t)
	over := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	do := func(op string) string {
		resp, err := over.Post("http://localhost/v1/jobs?wait=20s", "", strings.NewReader(op))
		require.NoError(t, err)
		defer resp.Body.Close()
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		require.NoError(t, err)
		return body.String()
	}
	types := func() string {
		_, body, err := get(p.url + "/v1/types")
		require.NoError(t, err)
		return body
	}
	file := filepath.Join(s.dir, "state", "types.d", "reference.yaml")

	s.write(t, "workers: [{name: unfinished, preset: reference},")
	require.Contains(t, do(`{"operation":"worker_install","worker_id":"reference"}`), `"state":"succeeded"`)
	require.FileExists(t, file)
	require.Contains(t, types(), `"name":"reference","source":"installed"`)

	// An entry of that name wins from the next reload on.
	s.write(t, "workers: [{name: reference, device: '7'}]")
	code, body := p.post("/v1/reload")
	require.Equal(t, http.StatusOK, code, body)
	require.Contains(t, types(), `"name":"reference","source":"configuration"`)
	p.logs("is ignored: hive.yaml has an entry of that name")
	for _, op := range []string{"worker_install", "worker_remove"} {
		require.Contains(t, do(`{"operation":"`+op+`","worker_id":"reference"}`), `"code":"conflict"`)
	}

	// Damaged, it is told at a reload and at a start, by file and line.
	s.write(t, "{}")
	require.NoError(t, os.WriteFile(file, []byte("name: reference\nprest: reference\n"), 0o600))
	code, body = p.post("/v1/reload")
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, body, file+":2: unknown key")
	require.Contains(t, types(), `"name":"reference","source":"configuration"`, "nothing was changed")
	exit, _, printed := s.command(t)
	require.Equal(t, 2, exit)
	require.Contains(t, printed, file+":2: unknown key")
	p.signal(syscall.SIGTERM)
	code, _ = p.end()
	require.Zero(t, code)
}
