package workertype_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/logs"
	"rbeehive/hive/models"
	"rbeehive/hive/operation"
	_ "rbeehive/hive/proc/gate" // the test binary is its own gate
	"rbeehive/hive/run"
	"rbeehive/hive/workertype"
	"rbeehive/store"
	"rbeehive/store/storetest"
	testprogram "rbeehive/test/program"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // with 002 t.TempDir is no place that hive believes
	goleak.VerifyTestMain(m)
}

// outsider is a user who has nothing: not in the user database, and no groups.
const outsider = "54321:54322"

// firstPort is the port of an example.
const firstPort = 18080

// rig is the types of a hive over a real state file.
type rig struct {
	*workertype.Types
	t       *testing.T
	dir     string // the data directory
	store   *store.Store
	types   *catalog.Catalog
	library *models.Library
	live    []store.Worker
	// reload is what a reload does; nil: it takes over what tests put into types.d.
	reload func() error
}

func newRig(t *testing.T, entries ...catalog.Entry) *rig {
	t.Helper()
	r := rigWithout(t, entries...)
	r.open(func(context.Context) error {
		if r.reload != nil {
			return r.reload()
		}
		return r.readTypes()
	})
	return r
}

// rigWithout is newRig before it is known whether types can be installed.
func rigWithout(t *testing.T, entries ...catalog.Entry) *rig {
	t.Helper()
	r := &rig{t: t}
	r.store = storetest.Open(t, func(o *store.Options) { r.dir = filepath.Dir(o.Path) })
	var err error
	r.library, err = models.New(models.Options{Dir: filepath.Join(t.TempDir(), "models")})
	require.NoError(t, err)
	t.Cleanup(r.library.Close)
	r.configure(entries...)
	return r
}

func (r *rig) configure(entries ...catalog.Entry) {
	r.t.Helper()
	types, err := catalog.New(entries, "/bin/true")
	require.NoError(r.t, err)
	r.types = types
}

func (r *rig) open(reload func(context.Context) error) {
	r.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	state := run.New()
	r.t.Cleanup(state.Close)
	r.Types = workertype.New(workertype.Options{
		Run: state, Journal: journal.New(state.Context(), r.store, r.dir, log), Catalog: func() *catalog.Catalog { return r.types },
		Live: func() []store.Worker { return r.live }, DataDir: r.dir, Version: "v1.2.3", FirstPort: firstPort, Reload: reload,
		Launcher: &launch.Launcher{
			StateID: "state", Secret: store.Secret("secret"), HiveURL: "http://127.0.0.1:8080", QueenURL: func() string { return "" },
			Models: r.library, Logs: logs.New(logs.Config{}, r.t.TempDir(), log), Closing: state.Closing, Log: log,
		},
	})
}

// readTypes takes over the files of types.d, as far as these tests write them.
func (r *rig) readTypes() error {
	files, err := filepath.Glob(filepath.Join(r.dir, workertype.TypesDir, "*.yaml"))
	if err != nil {
		return err
	}
	var entries []catalog.Entry
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		e := catalog.Entry{File: file}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			value = strings.Trim(value, `"`)
			switch key {
			case "name":
				e.Name = value
			case "preset":
				e.Preset = value
			case "program":
				e.Program = value
			}
		}
		entries = append(entries, e)
	}
	r.types, err = catalog.New(entries, "/bin/true")
	return err
}

// view is one type of a list.
func (r *rig) view(name string, versions bool) workertype.View {
	r.t.Helper()
	for _, v := range r.List(r.t.Context(), versions) {
		if v.Name == name {
			return v
		}
	}
	require.FailNow(r.t, "no such type", name)
	return workertype.View{}
}

// job is a job that is carried out.
type job struct {
	operation.Job // nothing else of it is asked for
	finalized     bool
	cancelled     error
}

func (j *job) ID() string { return "job-1" }

func (j *job) RecordRunning(b *journal.Batch) error {
	return b.PutJob(store.Job{JobID: j.ID(), Operation: "worker_remove", Request: []byte(`{}`), State: store.JobRunning})
}

func (j *job) Finalize(context.Context) error {
	j.finalized = true
	return j.cancelled
}

// script writes a program of these lines.
func script(t *testing.T, path, lines string) string {
	t.Helper()
	require.NoError(t, testprogram.Write(path, []byte("#!/bin/sh\n"+lines+"\n"), 0o755))
	return path
}

// inPath puts a program into a PATH of its own.
func inPath(t *testing.T, name, lines string) (path string) {
	t.Helper()
	dir := t.TempDir()
	path = script(t, filepath.Join(dir, name), lines)
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return path
}

// publicDir is a directory in which everybody may write; t.TempDir is below one that
// only its owner may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "typestest")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// requireFailure requires a failed job of this code, and returns what it says.
func requireFailure(t *testing.T, err error, code string) string {
	t.Helper()
	var f *errdefs.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, code, f.Code, f.Message)
	return f.Message
}

func ref[T any](v T) *T { return &v }
