package hive_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/hive/workertype"
	"rbeehive/store"
	testprogram "rbeehive/test/program"
)

// inPath puts a program into a PATH of its own.
func inPath(t *testing.T, name string) (path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, name)
	require.NoError(t, testprogram.Write(path, []byte("#!/bin/sh\necho 'version: 7 (x)'\n"), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return path
}

// A reload that does not take what was written leaves nothing of it behind, and puts
// back what a removal has taken away.
func TestInstallIsUndone(t *testing.T) {
	path := inPath(t, "llama-server")
	refuse := error(&errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: "no, thanks"})
	r := newRig(t, 3)
	r.cfg.ReloadTypes = func(context.Context) error { return refuse }
	r.open()
	dir := filepath.Join(r.cfg.DataDir, workertype.TypesDir)
	file := filepath.Join(dir, "llama-server.yaml")
	install := map[string]any{"operation": "worker_install", "worker_id": "llama-server"}
	remove := map[string]any{"operation": "worker_remove", "worker_id": "llama-server"}
	failed := func(op map[string]any) {
		t.Helper()
		job := r.do(op)
		require.Equal(t, store.JobFailed, job.State)
		require.Equal(t, errdefs.CodeConflict, job.Error.Code, job.Error.Message)
		require.Contains(t, job.Error.Message, "no, thanks")
	}
	failed(install)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoError(t, os.WriteFile(file, []byte("as it was"), 0o600))
	failed(install)
	requireFile(t, file, "as it was")

	refuse = nil
	r.reload(catalog.Entry{Name: "llama-server", Preset: "llama-server", Program: path, File: file})
	job := r.do(install)
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)

	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(raw), "name: \"llama-server\"\npreset: \"llama-server\"\n")

	refuse = &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: "no, thanks"}
	failed(remove)
	requireFile(t, file, string(raw))
	refuse = nil
	require.Equal(t, store.JobSucceeded, r.do(remove).State)
	require.NoFileExists(t, file)
}

func requireFile(t *testing.T, path, want string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(raw))
}

// What is listed is written nowhere, and a hash is that of the file as it is now.
func TestInstalledIsListedFromMemory(t *testing.T) {
	path := inPath(t, "llama-server")
	r := newRig(t, 3)
	r.open()
	type row struct {
		Version *string
		Size    int64
		Path    string
		SHA256  string
	}
	get := func() (v row) {
		job := r.do(map[string]any{"operation": "worker_installed_get", "worker_id": "llama-server"})
		require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
		require.NoError(t, json.Unmarshal(job.Result, &v))
		return v
	}
	first := get()
	require.Equal(t, first, get())
	require.Equal(t, path, first.Path)
	require.Equal(t, "7 (x)", *first.Version)
	require.NoError(t, testprogram.Write(path, []byte("#!/bin/sh\necho 'version: 18 (x)'\n"), 0o700))
	second := get()
	require.NotEqual(t, first.SHA256, second.SHA256)
	require.Equal(t, first.Size+1, second.Size)
	require.Equal(t, "18 (x)", *second.Version)
	for _, op := range []string{"worker_catalog_list", "worker_list_installed"} {
		require.Equal(t, store.JobSucceeded, r.do(map[string]any{"operation": op}).State)
	}
	jobs, _, err := r.h.Jobs(jobs.Filter{})
	require.NoError(t, err)
	require.Empty(t, jobs)
}

// A removal that hive was killed in is not begun again, and an installation is.
func TestInstallAfterAKill(t *testing.T) {
	inPath(t, "llama-server")
	r := newRig(t, 3)
	r.cfg.ReloadTypes = func(context.Context) error { return nil }
	at := time.Now().UTC()
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(r.cfg.DataDir, "hive.db")})
	require.NoError(t, err)
	require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(
			tx.PutJob(store.Job{
				JobID: "job-remove", Operation: "worker_remove", State: store.JobRunning, CreatedAt: at, StartedAt: &at,
				Request: []byte(`{"operation":"worker_remove","worker_id":"vllm"}`),
			}),
			tx.PutJob(store.Job{
				JobID: "job-install", Operation: "worker_install", State: store.JobQueued, CreatedAt: at,
				Request: []byte(`{"operation":"worker_install","worker_id":"llama-server"}`),
			}),
		)
	}))
	require.NoError(t, s.Close())
	r.open()
	job, err := r.h.WaitJob(t.Context(), "job-remove")
	require.NoError(t, err)
	require.Equal(t, errdefs.CodeInterrupted, job.Error.Code)
	job, err = r.h.WaitJob(t.Context(), "job-install")
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	require.FileExists(t, filepath.Join(r.cfg.DataDir, workertype.TypesDir, "llama-server.yaml"))
}
