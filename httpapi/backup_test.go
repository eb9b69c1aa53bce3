package httpapi_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
	"rbeehive/store"
)

func TestBackupOverTheSocket(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.do(`{"operation":"hive_check"}`)
	path := r.serveSocket()
	client := checkedClient(t)
	client.Transport = document().Transport(&http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}, func(err error) { t.Errorf("contract: %v", err) })
	requireBackup(t, client, "http://localhost/v1/backup", "")
	resp, err := client.Head("http://localhost/v1/backup")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "application/octet-stream", resp.Header.Get("Content-Type"))
}

func TestBackupWithTheToken(t *testing.T) {
	r := newRig(t, rigOptions{})
	log, _ := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, Token: secret, TokenFile: "/var/lib/hive/token"})
	s.SetHive(r.hive)
	url := "http://" + start(t, s) + "/v1/backup"
	client := checkedClient(t)
	requireBackup(t, client, url, secret)
}

// requireBackup fetches a backup and checks it wholly.
func requireBackup(t *testing.T, client *http.Client, url, token string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "application/octet-stream", resp.Header.Get("Content-Type"))
	require.Regexp(t, `^attachment; filename="hive-\d{8}T\d{6}\.\d{3}Z\.db"$`, resp.Header.Get("Content-Disposition"))
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	require.NoError(t, err)
	_, err = store.BackupFrom(t.Context(), &body, filepath.Join(t.TempDir(), "copy.db"), false)
	require.NoError(t, err)
}
