//go:build linux

package programs_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
	"rbeehive/test/skip"
)

const programsFile = "../../docs/examples/programs.yaml"

// Of programs.yaml, as it is, a caller chooses nothing that gets into a file or a
// command: nginx had its `root` written into its configuration as it was given, and
// with it files of root's anywhere.
func TestExamplesUnderAttack(t *testing.T) {
	hive, err := harness.NewFrom(os.Getenv(binaryVar), 4, programsFile, "")
	require.NoError(t, err)
	t.Setenv("TMPDIR", hive.Dir)
	s := newSite(t, hive, err)
	refused := func(field string, spawn map[string]any) {
		t.Helper()
		spawn["operation"] = "worker_spawn"
		body, err := json.Marshal(spawn)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+hive.API+"/v1/jobs?wait=60s", bytes.NewReader(body))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, "%s: %s", body, text)
		var problem wire.Problem
		require.NoError(t, json.Unmarshal(text, &problem))
		require.Contains(t, problem.Detail, field, "%s", body)
	}
	pwned := filepath.Join(hive.Dir, "pwned")
	for _, kind := range []string{"redis", "nginx", "memcached", "web"} {
		for _, value := range []string{
			"/", "/root", "/usr/share/nginx/html", "/tmp; } server { listen 1; root /root", "x; error_log " + pwned, `"; autoindex on; "`, "$(touch " + pwned + ")",
			"`touch " + pwned + "`", "'; touch " + pwned + "; '", "EOF\ntouch " + pwned, "-x", "a", "",
		} {
			refused("params", map[string]any{"worker": kind, "params": map[string]string{"root": value}})
			refused("params", map[string]any{"worker": kind, "params": map[string]string{"other": value}})
			if value == "" {
				continue
			}
			refused("name", map[string]any{"worker": kind, "name": "../" + value})
			if value != "a" {
				refused("device", map[string]any{"worker": kind, "device": value})
			}
		}
		for _, port := range []any{80, 1023, -1, "8080", 0, 65536} {
			refused("port", map[string]any{"worker": kind, "port": port})
		}
		refused("model", map[string]any{"worker": kind, "model": "--include=" + pwned})
	}
	require.NoFileExists(t, pwned)
	leases, err := s.hive.Leases(t.Context())
	require.NoError(t, err)
	require.Empty(t, leases)
	require.Empty(t, s.everybody())
}

// The id of a worker is no secret, and its directory's name in /tmp neither: whoever
// makes that directory first, after a restart of the machine, must not get a file of
// nginx's user written through a link in it.
func TestNginxInADirectoryOfSomebodyElse(t *testing.T) {
	raw, err := os.ReadFile(programsFile)
	require.NoError(t, err)
	var file struct {
		Workers []struct {
			Name        string
			BeforeStart []string `yaml:"before_start"`
		}
	}
	require.NoError(t, yaml.Unmarshal(raw, &file))
	var hook []string
	for _, w := range file.Workers {
		if w.Name == "nginx" {
			hook = w.BeforeStart
		}
	}
	require.Len(t, hook, 8)
	dir := t.TempDir()
	prepare := func(place string) error {
		cmd := exec.CommandContext(t.Context(), hook[0], append(append([]string{}, hook[1:4]...), place, "127.0.0.1", "8080", "/srv/my files")...)
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %v %s", place, err, out)
		return err
	}
	own := filepath.Join(dir, "own")
	require.NoError(t, prepare(own))
	text, err := os.ReadFile(filepath.Join(own, "nginx.conf"))
	require.NoError(t, err)
	require.Contains(t, string(text), `server { listen 127.0.0.1:8080; root "/srv/my files"; }`)

	victim := filepath.Join(dir, "victim")
	require.NoError(t, os.WriteFile(victim, []byte("mine"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(own, "nginx.conf")))
	require.NoError(t, os.Symlink(victim, filepath.Join(own, "nginx.conf")))
	require.NoError(t, prepare(own), "its own directory is used again")

	link, plain := filepath.Join(dir, "link"), filepath.Join(dir, "file")
	require.NoError(t, os.Symlink(own, link))
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	require.Error(t, prepare(link))
	require.Error(t, prepare(plain))
	text, err = os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))
	skip.UnlessRoot(t, "a directory of another user's takes root to make")
	foreign := filepath.Join(dir, "foreign")
	require.NoError(t, os.Mkdir(foreign, 0o777))
	require.NoError(t, os.Symlink(victim, filepath.Join(foreign, "nginx.conf")))
	require.NoError(t, os.Chown(foreign, 65534, 65534))
	require.Error(t, prepare(foreign))
	text, err = os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))
}
