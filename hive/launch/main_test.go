package launch_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/launch"
	"rbeehive/hive/logs"
	"rbeehive/hive/models"
	_ "rbeehive/hive/proc/gate" // the test binary is its own gate
	"rbeehive/store"
	testprogram "rbeehive/test/program"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // with 002 t.TempDir is no place that hive believes
	goleak.VerifyTestMain(m)
}

// outsider is a user who has nothing: not in the user database, and no groups.
const outsider = "54321:54322"

// rig is a launcher with a catalog of models, over a directory of its own.
type rig struct {
	*launch.Launcher
	t       testing.TB
	dir     string
	closing bool
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	library, err := models.New(models.Options{Dir: filepath.Join(r.dir, "models")})
	require.NoError(t, err)
	t.Cleanup(library.Close)
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, "logs"), 0o700))
	log := logrus.New()
	log.SetOutput(io.Discard)
	r.Launcher = &launch.Launcher{
		StateID: "state", Secret: store.Secret("secret"), HiveURL: "http://127.0.0.1:8080", QueenURL: func() string { return "http://queen:7833" },
		Models: library, Logs: logs.New(logs.Config{}, filepath.Join(r.dir, "logs"), log), Closing: func() bool { return r.closing }, Log: log,
	}
	return r
}

// model puts a model into the catalog.
func (r *rig) model(id string) models.Model {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "m.gguf")
	require.NoError(r.t, os.WriteFile(file, []byte("GGUF\x03\x00\x00\x00 weights"), 0o600))
	m, err := r.Models.Import(r.t.Context(), file, id, false)
	require.NoError(r.t, err)
	return m
}

// record is a worker of a type, as its supervisor has it before its first start.
func (r *rig) record(typ *catalog.Type) store.Worker {
	return store.Worker{
		WorkerID: "web-9000-abcdef", Type: typ.Name, LeaseID: "lease", Port: 9000, Ports: []uint16{9000},
		Log: r.Logs.Path("web-9000-abcdef"), Spec: store.Spec{User: typ.User, Dir: typ.Dir, NoNewPrivs: typ.NoNewPrivs},
	}
}

// logOf is what a worker's log has.
func (r *rig) logOf(rec store.Worker) string {
	r.t.Helper()
	text, err := os.ReadFile(rec.Log)
	require.NoError(r.t, err)
	return string(text)
}

// typeOf is the type that an entry makes; a name and a command are given where it has none.
func typeOf(t testing.TB, e catalog.Entry) *catalog.Type {
	t.Helper()
	e.Name = "web"
	if e.Preset == "" && e.Command == nil {
		e.Command = []string{"/bin/true"}
	}
	types, err := catalog.New([]catalog.Entry{e}, "/bin/true")
	require.NoError(t, err)
	typ, ok := types.Type("web")
	require.True(t, ok)
	return typ
}

// script is a program of these lines.
func script(t testing.TB, lines string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	require.NoError(t, testprogram.Write(path, []byte("#!/bin/sh\n"+lines+"\n"), 0o755))
	return path
}

// publicDir is a directory in which everybody may write; t.TempDir is below one that
// only its owner may enter.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "launchtest")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// lookup is a variable of an environment; ok is false if it is not in it.
func lookup(env []string, name string) (value string, ok bool) {
	i := slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	if i < 0 {
		return "", false
	}
	return strings.TrimPrefix(env[i], name+"="), true
}

// requireFailure requires a failed job of this code, and returns what it says.
func requireFailure(t testing.TB, err error, code string) *errdefs.Failure {
	t.Helper()
	var f *errdefs.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, code, f.Code)
	return f
}

func environment(t testing.TB, typ *catalog.Type) ([]string, error) {
	t.Helper()
	return launch.Environment(context.WithoutCancel(t.Context()), typ, typ.User, "")
}
