package main_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
	"rbeehive/hive/trust"
)

// stranger is a user who has nothing to do with hive.
const stranger = 54321

func give(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		require.NoError(t, os.Lchown(path, stranger, stranger))
	}
}

func TestDataDirOfAnotherUser(t *testing.T) {
	needRoot(t)
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"itself": {
			func(t *testing.T, dir string) { give(t, dir) },
			"create the data directory: DIR belongs to uid 54321 (mode 0700), who could change what hive does as root; run: chown root DIR; or choose another directory with --data-dir",
		},
		"the way to it": {
			func(t *testing.T, dir string) { require.NoError(t, os.Remove(dir)); give(t, filepath.Dir(dir)) },
			"; or choose another directory with --data-dir",
		},
		"a way that others may write to": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.Remove(dir))
				require.NoError(t, os.Chmod(filepath.Dir(dir), 0o777))
			},
			"can be written to by every user",
		},
		"a link of theirs": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.Rename(dir, dir+".real"))
				require.NoError(t, os.Symlink(dir+".real", dir))
				give(t, dir)
			},
			"run: chown -h root DIR",
		},
		"its state file": {
			func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, "hive.db"), "")
				give(t, filepath.Join(dir, "hive.db"))
			},
			"check the data directory: DIR/hive.db belongs to uid 54321",
		},
		"a state file that leads elsewhere": {
			func(t *testing.T, dir string) {
				write(t, dir+".theirs", "")
				give(t, dir+".theirs")
				require.NoError(t, os.Symlink(dir+".theirs", filepath.Join(dir, "hive.db")))
			},
			"check the data directory: DIR.theirs belongs to uid 54321",
		},
		"types.d": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.Mkdir(dir+"/types.d", 0o700))
				give(t, dir+"/types.d")
			},
			"DIR/types.d belongs to uid 54321",
		},
		"logs": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.Mkdir(dir+".theirs", 0o700))
				give(t, dir+".theirs")
				require.NoError(t, os.Symlink(dir+".theirs", dir+"/logs"))
			},
			"DIR.theirs belongs to uid 54321",
		},
		"backups": {
			func(t *testing.T, dir string) {
				require.NoError(t, os.Mkdir(dir+"/backups", 0o700))
				require.NoError(t, os.Chmod(dir+"/backups", 0o730))
			},
			"DIR/backups can be written to by its group",
		},
		"models": {
			func(t *testing.T, dir string) { write(t, dir+"/models", "") },
			"DIR/models is not a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.Mkdir(dir, 0o700))
			tc.spoil(t, dir)
			require.ErrorContains(t, main.PrepareDataDir(dir), strings.ReplaceAll(tc.want, "DIR", dir))
		})
	}
}

// What was put into a directory while everybody could is nobody's word.
func TestDataDirThatOthersMayWriteTo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	write(t, filepath.Join(dir, "hive.db"), "")
	require.NoError(t, os.Chmod(dir, 0o777))
	require.EqualError(t, main.PrepareDataDir(dir), "others may write to the data directory "+dir+
		" (mode 0777), and its content decides what hive runs; check that all of it is hive's, then run: chmod 700 "+dir)
	require.Equal(t, os.FileMode(0o777), mode(t, dir))
	require.NoError(t, os.Remove(filepath.Join(dir, "hive.db")))
	require.NoError(t, main.PrepareDataDir(dir), "as mkdir makes it for some")
	require.Equal(t, os.FileMode(0o700), mode(t, dir))
}

// Another user makes a directory with a worker type in it, and root runs hive there.
func TestRootOnADataDirOfAnotherUser(t *testing.T) {
	needRoot(t)
	s := newSite(t, "")
	data, types := filepath.Join(s.dir, "state"), filepath.Join(s.dir, "state", "types.d")
	write(t, filepath.Join(types, "sys.yaml"), "name: sys\ncommand: [id]\nautostart: true\n")
	give(t, data, types, filepath.Join(types, "sys.yaml"))
	code, _, stderr := s.command(t)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "hive: "+types+": "+data+" belongs to uid 54321")
	require.NoError(t, os.RemoveAll(types))
	code, _, stderr = s.command(t)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "hive: create the data directory: "+data+" belongs to uid 54321")
	require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
}

// unconfigured is a site whose hives are told of no file.
func unconfigured(t *testing.T) *site {
	s := newSite(t, "")
	require.NoError(t, os.Remove(filepath.Join(s.dir, "hive.yaml")))
	s.env = slices.DeleteFunc(s.env, func(v string) bool { return strings.HasPrefix(v, "HIVE_CONFIG=") })
	return s
}

// `cd` to somewhere, and hive: as root neither the start nor a reload reads what lies
// there.
func TestRootInADirectoryWithAFile(t *testing.T) {
	needRoot(t)
	s := unconfigured(t)
	s.write(t, "workers: [{name: cpu, args: [--unhealthy]}, {name: evil, command: [id]}]\n")
	p := s.start(t)
	require.Equal(t, "config    none found, defaults", p.banner[1])
	const unread = "hive runs as root and ignores ./hive.yaml, which another user may have written; use --config ./hive.yaml to read it"
	require.Eventually(t, func() bool { return strings.Contains(p.stderr.String(), unread) }, testTimeout, 5*time.Millisecond)
	types := func() string {
		_, body, err := get(p.url + "/v1/types")
		require.NoError(t, err)
		return body
	}
	require.NotContains(t, types(), "evil")
	code, body := p.post("/v1/reload")
	require.Equal(t, http.StatusOK, code, body)
	p.sighup(`msg=reloaded`)
	require.NotContains(t, types(), "evil")
	p.signal(syscall.SIGTERM)
	p.end()

	p = s.start(t, "--config", "./hive.yaml")
	require.Contains(t, types(), "evil", "root can say so")
	require.NotContains(t, p.stderr.String(), "does not read")
	p.signal(syscall.SIGTERM)
	p.end()
}

// The file of a start is the file of its reloads, and one that is gone changes nothing.
func TestReloadWhenTheFileIsGone(t *testing.T) {
	s := newSite(t, "workers: [{name: cpu, model: m}, {name: two, preset: reference}]\n")
	p := s.start(t)
	w := p.spawn(spawnCPU)
	file := filepath.Join(s.dir, "hive.yaml")
	require.NoError(t, os.Rename(file, file+".old"))
	p.sighup("SIGHUP: reload failed, nothing was changed")
	code, body := p.post("/v1/reload")
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, body, `"code":"invalid_configuration"`)
	require.Contains(t, body, file+": no longer exists, and a reload reads the file that hive was started with; restore it, or restart hive")
	require.False(t, p.stale(w))
	p.spawn(`{"operation": "worker_spawn", "worker": "two"}`)
	require.NoError(t, os.Rename(file+".old", file))
	code, body = p.post("/v1/reload")
	require.Equal(t, http.StatusOK, code, body)
	p.signal(syscall.SIGTERM)
	p.end()
}

func TestReloadOfAHiveWithoutAFile(t *testing.T) {
	s := unconfigured(t)
	p := s.start(t)
	code, body := p.post("/v1/reload")
	require.Equal(t, http.StatusOK, code, body)
	p.sighup("none: only a start searches for one")
	later := filepath.Join(s.dir, ".config/hive/hive.yaml")
	require.NoError(t, os.MkdirAll(filepath.Dir(later), 0o700))
	require.NoError(t, os.WriteFile(later, []byte("workers: [{name: late, preset: reference}]\n"), 0o600))
	code, body = p.post("/v1/reload")
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, body, later+": will be read at the next start of hive")
	_, body, err := get(p.url + "/v1/types")
	require.NoError(t, err)
	require.NotContains(t, body, "late")
	p.signal(syscall.SIGTERM)
	p.end()
}

// Who can replace hive's program is root with the next worker, and it is said.
func TestProgramOfAnotherUser(t *testing.T) {
	needRoot(t)
	s := newSite(t, "")
	dir := t.TempDir()
	program := filepath.Join(dir, "hive")
	from, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	give(t, dir)

	var stderr shared
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env, cmd.Dir, cmd.Stderr = s.env, s.dir, &stderr
	require.NoError(t, cmd.Start())
	const says = "hive's executable can be changed by other users"
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), says) }, testTimeout, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	require.Contains(t, stderr.String(), dir+" belongs to uid 54321")
}

// In another user's directory that user could exchange the socket between hive's
// bind(2) and chmod(2), for a link to a file of root's.
func TestSocketInADirectoryOfAnotherUser(t *testing.T) {
	needRoot(t)
	dir := shortDir(t)
	give(t, dir)
	_, err := main.ListenSocket(t.Context(), filepath.Join(dir, "s"), private)
	require.ErrorIs(t, err, trust.ErrUntrusted)
	require.ErrorContains(t, err, "listen on unix:"+dir+"/s: "+dir+" belongs to uid 54321 (mode 0700), who could put something else in the place of "+dir+"/s; ")
	require.NoFileExists(t, filepath.Join(dir, "s"))
}
