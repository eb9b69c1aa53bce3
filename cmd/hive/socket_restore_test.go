package main_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The control socket is removed under a running hive: it is made anew, with its mode.
func TestTheSocketIsRemoved(t *testing.T) {
	s := newSite(t, "audit: {interval: 1s}\nsocket: {mode: '0660'}\n")
	p := s.start(t, "--log-format", "json")
	path := filepath.Join(s.dir, "state", "control.sock")
	before, err := os.Stat(path)
	require.NoError(t, err)
	for range 2 { // and again
		require.NoError(t, os.Remove(path))
		over := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
		require.Eventually(t, func() bool {
			resp, err := over.Get("http://hive/health")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}, testTimeout, 20*time.Millisecond)
		now, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, before.Mode(), now.Mode())
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "state", ".control.sock*"))
	require.NoError(t, err)
	require.Empty(t, left)
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code)
	require.NoFileExists(t, path)
}
