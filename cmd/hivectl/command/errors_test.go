package command_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

func TestRecoveryIsWaitedForAndToldOnce(t *testing.T) {
	var tries atomic.Int32
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) < 3 {
			problem(503, "recovering", "recovering 37/1920")(w, r)
			return
		}
		workers()(w, r)
	}})
	r := hivectl(t, addr, "ps", "-q")
	require.Zero(t, r.code)
	require.Equal(t, "hive is recovering 37/1920; waiting for it\n", r.stderr)
}

func TestSomebodyElseAnswers(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }})
	r := hivectl(t, addr, "ps")
	require.Equal(t, 4, r.code)
	require.Regexp(t, `^hivectl: the server there is not a hive: [^\n]+\nhint: [^\n]+\n$`, r.stderr)
}

func TestToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cret" {
			problem(401, "unauthorized", "a token is needed")(w, r)
			return
		}
		workers()(w, r)
	}})
	r := hivectl(t, addr, "ps")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "give a token (--token-file FILE)")

	require.NoError(t, os.WriteFile(path, []byte("s3cret\n"), 0o600))
	require.Zero(t, hivectl(t, addr, "ps", "--token-file", path).code)
	r = hivectlWith(t, func(e *cli.Env) {
		e.Getenv = func(name string) string { return map[string]string{"HIVE_ADDR": addr, "HIVE_TOKEN_FILE": path}[name] }
	}, "ps")
	require.Zero(t, r.code, r.stderr)

	for _, bad := range []string{"", "two words", "new\nline", strings.Repeat("x", 5000)} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		require.Equal(t, 2, hivectl(t, addr, "ps", "--token-file", path).code)
	}
}

// A disk that is full, or a reader that has gone, is not success.
func TestOutputThatCannotBeWritten(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(worker("cpu-8080-a", "", "ready", 8080))})
	for _, form := range []string{"table", "json", "yaml"} {
		r := hivectlWith(t, func(e *cli.Env) { e.Stdout = fullDisk{} }, "--addr", addr, "ps", "-o", form)
		require.Equal(t, 1, r.code)
		require.Equal(t, "hivectl: no space left on device\n", r.stderr)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
