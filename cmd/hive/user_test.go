package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
	"rbeehive/test/program"
	"rbeehive/test/skip"
)

// outsider is a user who has nothing: not in the user database, and no groups.
const outsider = "54321:54322"

func needRoot(t *testing.T) {
	t.Helper()
	skip.UnlessRoot(t, "only root starts workers as another user, and gives files away")
}

// publicDir is one that everybody may enter; t.TempDir is not.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hivetest")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// asOutsider runs a shell as the workers' user, or whoever has got into a worker.
func asOutsider(script string) string {
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54322}}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(fmt.Sprintf("%s %v", out, err))
}

// The data directory lets the workers' user pass to the models and to nothing else.
func TestDataDirLetsWorkersPassToTheModels(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(publicDir(t), "data")
	write(t, filepath.Join(dir, "hive.db"), "secret")
	write(t, filepath.Join(dir, "logs", "a.log"), "secret")
	require.NoError(t, os.Chmod(filepath.Join(dir, "logs"), 0o700))
	write(t, filepath.Join(dir, "models", "m.gguf"), "weights")
	require.NoError(t, os.Chmod(filepath.Join(dir, "models", "m.gguf"), 0o644))
	read := "cat " + dir + "/models/m.gguf"

	require.NoError(t, main.PrepareDataDir(dir))
	for _, noMatter := range [][2]string{{"", ""}, {"", "root"}, {"/srv/models", outsider}, {dir + "/../models", outsider}} {
		require.NoError(t, main.GrantTraversal(dir, noMatter[0], noMatter[1]))
		require.Equal(t, os.FileMode(0o700), mode(t, dir), noMatter)
	}
	require.Contains(t, asOutsider(read), "Permission denied")
	for _, models := range []string{"", filepath.Join(dir, "models")} {
		require.NoError(t, main.PrepareDataDir(dir))
		require.NoError(t, main.GrantTraversal(dir, models, outsider))
		require.Equal(t, os.FileMode(0o710), mode(t, dir))
		require.Equal(t, "weights <nil>", asOutsider(read))
		for _, attack := range []string{"cat " + dir + "/hive.db", "ls " + dir, "ls " + dir + "/logs", "cat " + dir + "/logs/a.log", "touch " + dir + "/types.d"} {
			require.Contains(t, asOutsider(attack), "Permission denied", attack)
		}
	}
	require.NoError(t, main.PrepareDataDir(dir))
	require.Equal(t, os.FileMode(0o700), mode(t, dir), "closed again when workers have no user of their own any more")
	require.ErrorContains(t, main.GrantTraversal(dir, "", "no-such-user-42"), "unknown user")
}

// A root hive with worker_user: what it starts is that user, who gets at nothing of hive's.
func TestWorkersOfTheirOwnUser(t *testing.T) {
	needRoot(t)
	dir := publicDir(t)
	s := newSite(t, "worker_user: '"+outsider+"'\nauth: none\n")
	s.exe = filepath.Join(dir, "hive")
	b, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, program.Write(s.exe, b, 0o755))
	state := filepath.Join(dir, "state")
	s.env = append(s.env, "HIVE_DATA_DIR="+state, "AWS_SECRET_ACCESS_KEY=s3cret")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID))
	require.NoError(t, err)
	require.Contains(t, string(status), "\nUid:\t54321\t54321\t54321\t54321\n")
	require.Contains(t, string(status), "\nNoNewPrivs:\t1\n")
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.PID))
	require.NoError(t, err)
	require.NotContains(t, string(environ), "s3cret")
	require.Contains(t, string(environ), "USER=54321\x00")
	require.Equal(t, os.FileMode(0o710), mode(t, state))
	for _, attack := range []string{
		"cat " + state + "/hive.db", "ls " + state, "ls " + state + "/logs", "cat " + state + "/logs/" + w.WorkerID + ".log", "touch " + state + "/x",
	} {
		require.Contains(t, asOutsider(attack), "Permission denied", attack)
	}
	_, body, err := get(p.url + "/v1/types/cpu")
	require.NoError(t, err)
	require.Contains(t, body, `"user":"`+outsider+`"`)
	require.Contains(t, body, `"no_new_privileges":true`)

	// Another one waits for the next start.
	s.write(t, "auth: none\nworker_user: root\n")
	code, body := p.post("/v1/reload")
	require.Equal(t, 200, code, body)
	require.Contains(t, body, `"worker_user"`)
	const warning = "workers run as root unless their entry names a user"
	p.signal(syscall.SIGTERM)
	p.end()
	require.NotContains(t, p.stderr.String(), warning)
	p = s.start(t)
	require.Equal(t, os.FileMode(0o700), mode(t, state))
	p.signal(syscall.SIGINT)
	_, _ = p.line()
	p.signal(syscall.SIGINT)
	_, said := p.end()
	require.Contains(t, said, "hive stopped; no workers running")
	require.NotContains(t, p.stderr.String(), warning, "that is said")

	s.write(t, "auth: none\n")
	p = s.start(t)
	p.signal(syscall.SIGTERM)
	p.end()
	require.Contains(t, p.stderr.String(), warning)
}
