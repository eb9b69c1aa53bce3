package command_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

// tokenSeen is a hive that remembers the Authorization of the last request.
func tokenSeen(t *testing.T) (addr string, seen func() string) {
	t.Helper()
	var last string
	_, addr = serve(t, map[string]http.HandlerFunc{"GET /v1/workers": func(w http.ResponseWriter, r *http.Request) {
		last = r.Header.Get("Authorization")
		workers()(w, r)
	}})
	return addr, func() string { return last }
}

// hivectlIn runs a command with some variables.
func hivectlIn(t *testing.T, vars map[string]string, args ...string) result {
	t.Helper()
	return hivectlWith(t, func(e *cli.Env) { e.Getenv = func(name string) string { return vars[name] } }, args...)
}

// The token of the hive of this machine is found, and goes to this machine only.
func TestOwnTokenStaysHere(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("0wn\n"), 0o600))
	vars := map[string]string{"HIVE_DATA_DIR": dir}
	addr, seen := tokenSeen(t)
	require.Zero(t, hivectlIn(t, vars, "--addr", addr, "ps").code)
	require.Equal(t, "Bearer 0wn", seen())

	for _, where := range []map[string]string{
		{"XDG_STATE_HOME": "/x"}, {"HOME": "/x"}, {"HIVE_DATA_DIR": filepath.Join(dir, "none")},
	} {
		require.Zero(t, hivectlIn(t, where, "--addr", addr, "ps").code)
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("named"), 0o600))
	require.Zero(t, hivectlIn(t, vars, "--addr", addr, "--token-file", file, "ps").code)
	require.Equal(t, "Bearer named", seen(), "what was named goes first")
}

func TestTokenFileThatOthersCanRead(t *testing.T) {
	addr, _ := tokenSeen(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(path, []byte("s3cret"), 0o600))
	require.NoError(t, os.Chmod(path, 0o640))
	for _, r := range []result{
		hivectlIn(t, map[string]string{"HIVE_DATA_DIR": dir}, "--addr", addr, "ps"),
		hivectlIn(t, map[string]string{"HIVE_TOKEN_FILE": path}, "--addr", addr, "ps"),
		hivectl(t, addr, "ps", "--token-file", path),
	} {
		require.Equal(t, 2, r.code)
		require.Equal(t, "hivectl: token file "+path+" is open to others (mode 0640)\nhint: chmod 600 "+path+"\n", r.stderr)
	}
}

func tlsServer(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(workers())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestCAFile(t *testing.T) {
	server := tlsServer(t)
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644))
	require.Zero(t, hivectl(t, server.URL, "ps", "--ca-file", path).code)
	require.Zero(t, hivectlIn(t, map[string]string{"HIVE_CA_FILE": path}, "--addr", server.URL, "ps").code)

	r := hivectl(t, server.URL, "ps")
	require.Equal(t, 4, r.code)
	require.Contains(t, r.stderr, "hint: trust a private certificate with --ca-file FILE")

	require.NoError(t, os.WriteFile(path, []byte("no PEM"), 0o600))
	r = hivectl(t, server.URL, "ps", "--ca-file", path)
	require.Equal(t, 2, r.code)
	require.Equal(t, "hivectl: CA file "+path+": want certificates in PEM\nhint: hivectl ps --help\n", r.stderr)
	require.Equal(t, 2, hivectl(t, server.URL, "ps", "--ca-file", path+".gone").code)
}

// https to a hive without a certificate, and the other way round.
func TestWrongScheme(t *testing.T) {
	_, addr := serve(t, nil)
	r := hivectl(t, strings.Replace(addr, "http://", "https://", 1), "ps")
	require.Equal(t, 4, r.code)
	require.Contains(t, r.stderr, "hint: the server there does not speak TLS")
	server := tlsServer(t)
	r = hivectl(t, strings.Replace(server.URL, "https://", "http://", 1), "ps")
	require.Equal(t, 4, r.code)
	require.Contains(t, r.stderr, "serves https:// only")
}
