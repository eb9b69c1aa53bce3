package hive_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/hive/operation"
	"rbeehive/store"
	"rbeehive/test/hub"
)

const mib = 1 << 20

// newModelRig is a rig whose hive has a hub with one model, org/name:m.gguf.
func newModelRig(t *testing.T, size int64, entries ...catalog.Entry) (*rig, *hub.Hub, hub.File) {
	t.Helper()
	server := hub.Start()
	t.Cleanup(server.Close)
	f := hub.File{Path: "m.gguf", Size: size, Seed: 5, LFS: true}
	server.Add("org/name", f)
	r := newRig(t, 3, entries...)
	r.cfg.Models.Endpoint = server.URL
	return r, server, f
}

type modelResult struct {
	ID      string   `json:"id"`
	Path    string   `json:"path"`
	Size    int64    `json:"size_bytes"`
	Status  string   `json:"status"`
	Loaded  bool     `json:"loaded"`
	Workers []string `json:"workers"`
}

func (r *rig) model(op map[string]any) (m modelResult) {
	r.Helper()
	job := r.do(op)
	require.Equal(r, store.JobSucceeded, job.State, "%+v", job.Error)
	require.NoError(r, json.Unmarshal(job.Result, &m))
	return m
}

func (r *rig) models() []modelResult {
	r.Helper()
	var list struct{ Models []modelResult }
	require.NoError(r, json.Unmarshal(r.do(map[string]any{"operation": "model_list"}).Result, &list))
	return list.Models
}

func download(model string) map[string]any {
	return map[string]any{"operation": "model_download", "model": model}
}

func TestModelIsDownloadedSpawnedAndDeleted(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	r, _, f := newModelRig(t, 2*mib, catalog.Entry{
		Name: "echo", Command: []string{self, "worker", "--port", "{{.Port}}", "--model", "{{.Model}}", "--worker-id", "{{.ModelID}}"},
		Ready: catalog.ReadyEntry{Path: ref("/health")},
	})
	r.open()
	require.Empty(t, r.models())
	m := r.model(download("org/name:m.gguf"))
	require.Equal(t, filepath.Join(r.cfg.DataDir, "models", "org%2Fname%3Am.gguf", "m.gguf"), m.Path)
	require.Equal(t, f.Size, m.Size)
	require.Equal(t, []modelResult{m}, r.models())
	require.False(t, m.Loaded)
	jobs, _, err := r.h.Jobs(jobs.Filter{})
	require.NoError(t, err)
	require.Len(t, jobs, 1, "to list is not recorded")

	w := r.spawn("echo", map[string]any{"model": "org/name:m.gguf"})
	rec, err := r.h.Worker(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, "org/name:m.gguf", rec.Spec.Model, "what was asked for")
	require.Equal(t, "org/name:m.gguf", rec.Asked.Model)
	require.Equal(t, []string{"--model", m.Path, "--worker-id", "org/name:m.gguf"}, rec.Spec.Argv[4:])
	info, err := r.h.TypeInfo(t.Context(), operation.Spawn{Worker: "echo", Model: "org/name:m.gguf"}, false)
	require.NoError(t, err)
	require.Equal(t, m.Path, info.Plan.Spec.Argv[5])

	m = r.model(map[string]any{"operation": "model_get", "id": "org/name:m.gguf"})
	require.True(t, m.Loaded)
	require.Equal(t, []string{w.WorkerID}, m.Workers)
	remove := map[string]any{"operation": "model_delete", "id": "org/name:m.gguf"}
	job := r.do(remove)
	require.Equal(t, errdefs.CodeModelInUse, job.Error.Code)
	require.Contains(t, job.Error.Message, w.WorkerID)
	r.close()
	r.open()
	require.Equal(t, errdefs.CodeModelInUse, r.do(remove).Error.Code, "an adopted worker uses it too")
	r.stopWorker(w.WorkerID)

	byPath := r.spawn("echo", map[string]any{"model": m.Path})
	require.Equal(t, errdefs.CodeModelInUse, r.do(remove).Error.Code)
	r.stopWorker(byPath.WorkerID)
	require.Equal(t, store.JobSucceeded, r.do(remove).State)
	require.Empty(t, r.models())
	require.Equal(t, errdefs.CodeNotFound, r.do(remove).Error.Code)
	require.Equal(t, errdefs.CodeNotFound, r.do(map[string]any{"operation": "model_get", "id": "org/name:m.gguf"}).Error.Code)
}

func TestModelFailures(t *testing.T) {
	r, server, _ := newModelRig(t, mib)
	server.Add("org/two", hub.File{Path: "a.gguf", Size: 9, LFS: true}, hub.File{Path: "b.gguf", Size: 9, LFS: true})
	var free int64 = 1 << 40
	r.cfg.Models.Free = func(string) (int64, error) { return free, nil }
	r.open()
	failed := func(model, code, says string) {
		t.Helper()
		job := r.do(download(model))
		require.Equal(t, store.JobFailed, job.State)
		require.Equal(t, code, job.Error.Code, job.Error.Message)
		require.Contains(t, job.Error.Message, says)
		require.Empty(t, r.models())
	}
	failed("org/two", errdefs.CodeModelAmbiguous, "a.gguf, b.gguf")
	failed("org/none", errdefs.CodeNotFound, "no repository org/none")
	server.Misbehave(hub.Faults{Token: "x"})
	failed("org/name", errdefs.CodeHubUnauthorized, "HF_TOKEN")
	server.Misbehave(hub.Faults{WrongContent: true})
	failed("org/name", errdefs.CodeDownloadCorrupt, "has the hash")
	server.Misbehave(hub.Faults{LinkedETag: strings.Repeat("0", 64)})
	failed("org/name", errdefs.CodeDownloadCorrupt, "has changed")
	server.Misbehave(hub.Faults{WrongLength: 5})
	failed("org/name", errdefs.CodeDownloadCorrupt, "bytes")
	server.Misbehave(hub.Faults{})
	free = 1000
	failed("org/name", errdefs.CodeDiskFull, "free some space")
	_, err := os.Stat(filepath.Join(r.cfg.DataDir, "models", ".partial"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestWrongModelIDsAreRefused(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	for _, id := range []string{"", "../../etc", "/home/u", "a", "a/b/../c", "a/b:../../x", "a/b:x\u0000", strings.Repeat("x", 5000)} {
		for _, op := range []map[string]any{download(id), {"operation": "model_get", "id": id}, {"operation": "model_delete", "id": id}} {
			raw, err := json.Marshal(op)
			require.NoError(t, err)
			_, err = r.h.Decode(raw)
			require.ErrorIs(t, err, errdefs.ErrBadRequest, "%s", raw)
			var in *errdefs.InputError
			require.True(t, errors.As(err, &in))
			require.Contains(t, []string{"model", "id"}, in.Field)
		}
	}
	_, err := os.Stat(filepath.Join(r.cfg.DataDir, "models"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Two jobs for one model are one download; a cancelled one takes nothing from the other.
func TestDownloadIsJoinedAndCancelled(t *testing.T) {
	r, server, f := newModelRig(t, 4*mib)
	server.Misbehave(hub.Faults{Rate: 4 * mib})
	r.open()
	first, second, third := r.submit(download("org/name")), r.submit(download("org/name")), r.submit(download("org/name"))
	r.eventually("it comes", func() bool { return server.Sent() > mib })
	_, err := r.h.Cancel(t.Context(), access.Hive(), first.JobID)
	require.NoError(t, err)
	one, err := r.h.WaitJob(t.Context(), second.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, one.State, "%+v", one.Error)
	other, err := r.h.WaitJob(t.Context(), third.JobID)
	require.NoError(t, err)
	require.JSONEq(t, string(one.Result), string(other.Result))
	require.LessOrEqual(t, server.Sent(), f.Size)
	progress := 0
	for _, ev := range r.events(second.JobID, 0) {
		if ev.Type == store.EventProgress {
			progress++
			var p struct {
				Bytes, Total int64
				ETA          *float64 `json:"eta_s"`
			}
			require.NoError(t, json.Unmarshal(ev.Data, &p))
			require.Equal(t, f.Size, p.Total)
		}
	}
	require.Positive(t, progress)
	require.LessOrEqual(t, progress, int(2*one.FinishedAt.Sub(one.CreatedAt).Seconds())+1, "at most twice a second")
}

func TestCancelledDownloadStops(t *testing.T) {
	r, server, _ := newModelRig(t, 8*mib)
	server.Misbehave(hub.Faults{Rate: mib})
	r.open()
	job := r.submit(download("org/name"))
	r.eventually("it comes", func() bool { return server.Sent() > mib/4 })
	rec, err := r.h.Cancel(t.Context(), access.Hive(), job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobCancelled, rec.State)
	require.Empty(t, r.models())
	sent := server.Sent()
	r.never("it goes on", 300*time.Millisecond, func() bool { return server.Sent() > sent+128<<10 })
}

// A download goes on after a restart under the same job, with what it had.
func TestDownloadGoesOnAfterARestart(t *testing.T) {
	r, server, f := newModelRig(t, 8*mib)
	server.Misbehave(hub.Faults{Rate: 8 * mib})
	r.open()
	job := r.submit(download("org/name"))
	for i := range 3 {
		r.eventually("it comes", func() bool { return server.Sent() > int64(i+1)*mib })
		r.close()
		r.open()
	}
	server.Misbehave(hub.Faults{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rec, err := r.h.WaitJob(ctx, job.JobID)
	require.NoError(t, err)
	require.Equal(t, store.JobSucceeded, rec.State, "%+v", rec.Error)
	require.LessOrEqual(t, server.Sent(), f.Size+f.Size/10)
	require.Len(t, r.models(), 1)
}
