package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
	"rbeehive/test/hub"
	"rbeehive/test/program"
)

// failedJob makes a job fail, or be cancelled, with one code.
type failedJob struct {
	message string // part of it
	run     func(t *testing.T) wire.Job
}

// spawnOf spawns a worker of an entry.
func spawnOf(e func(t *testing.T) catalog.Entry) func(*testing.T) wire.Job {
	return func(t *testing.T) wire.Job {
		en := e(t)
		return newRig(t, rigOptions{}, en).do(`{"operation":"worker_spawn","worker":"` + en.Name + `"}`)
	}
}

func doing(body string) func(*testing.T) wire.Job {
	return func(t *testing.T) wire.Job { return newRig(t, rigOptions{}).do(body) }
}

// failedJobs has one for every code of a job.
var failedJobs = map[string]failedJob{
	"ports_exhausted":       {"no ports available", failPortsExhausted},
	"port_unavailable":      {"it is leased to bob", failPortUnavailable},
	"name_in_use":           {`"a"`, failNameInUse},
	"program_not_found":     {"no worker program is configured", doing(`{"operation":"worker_spawn","worker":"cuda","model":"m"}`)},
	"conflict":              {"not installed by worker_install (built-in)", failConflict},
	"not_found":             {`no live worker "nobody"`, doing(`{"operation":"worker_stop","worker_id":"nobody"}`)},
	"unsupported_operation": {"send it to the queen", doing(`{"operation":"infer"}`)},
	"exited_early":          {"exited with code 3 before it was ready", spawnOf(func(t *testing.T) catalog.Entry { return entry(t, "crash", "--exit-code", "3") })},
	"wrong_port":            {"instead of its port", spawnOf(func(t *testing.T) catalog.Entry { return entry(t, "offset", "--listen-offset", "1") })},
	"exec_failed":           {"exec format error", spawnOf(entryOfNoProgram)},
	"not_ready": {"not ready after 300ms (ready.timeout)", spawnOf(func(t *testing.T) catalog.Entry {
		e, timeout := entry(t, "sick", "--unhealthy"), 300*time.Millisecond
		e.Ready.Timeout = &timeout
		return e
	})},
	"foreign_listener": {"is held by", failForeignListener},
	"cancelled":        {"cancelled on request", failCancelled},
	"interrupted":      {"hive was restarted while the job ran", func(t *testing.T) wire.Job { return afterAStart(t, store.JobRunning, time.Second) }},
	"expired":          {"queued for more than 10m0s (jobs.max_queue_age)", func(t *testing.T) wire.Job { return afterAStart(t, store.JobQueued, time.Hour) }},
	"stop_incomplete":  {"so it is not touched", failStopIncomplete},
	"disk_full":        {"the disk is full: nothing new can be recorded", failDiskFull},
	"model_in_use": {"is used by", func(t *testing.T) wire.Job {
		r := modelRig(t, hub.Faults{})
		require.Equal(t, "succeeded", r.do(`{"operation":"model_download","model":"org/one"}`).State)
		for _, body := range []string{`{"operation":"model_get","id":"org/one"}`, `{"operation":"model_list"}`} {
			require.Equal(t, "succeeded", r.do(body).State)
		}
		require.Equal(t, "succeeded", r.do(`{"operation":"worker_spawn","worker":"cpu","model":"org/one"}`).State)
		job := r.do(`{"operation":"model_delete","id":"org/one"}`)
		require.Equal(t, "succeeded", r.do(`{"operation":"worker_stop","worker_id":"`+r.hive.Workers()[0].WorkerID+`"}`).State)
		require.Equal(t, "succeeded", r.do(`{"operation":"model_delete","id":"org/one"}`).State)
		return job
	}},
	"model_ambiguous":  {"a.gguf, b.gguf", downloading("org/two", hub.Faults{})},
	"hub_unauthorized": {"HF_TOKEN", downloading("org/one", hub.Faults{Token: "x"})},
	"download_failed": {"was restarted", func(t *testing.T) wire.Job {
		if testing.Short() {
			t.Skip("long: waits longer before each try of a download")
		}
		return downloading("org/one", hub.Faults{Cut: func(rest int64) int64 { return rest / 2 }, NoRanges: true})(t)
	}},
	"download_corrupt": {"has the hash", downloading("org/one", hub.Faults{WrongContent: true})},
	"internal":         {"too many open files", failInternal},
}

// modelRig has a hub with a model in org/one, and two in org/two.
func modelRig(t *testing.T, faults hub.Faults) *rig {
	server := hub.Start()
	t.Cleanup(server.Close)
	server.Add("org/one", hub.File{Path: "m.gguf", Size: 1 << 20, Seed: 1, LFS: true}, hub.File{Path: "README.md", Size: 10, Seed: 2})
	server.Add("org/two", hub.File{Path: "a.gguf", Size: 1, LFS: true}, hub.File{Path: "b.gguf", Size: 1, LFS: true})
	server.Misbehave(faults)
	return newRig(t, rigOptions{models: hive.ModelsConfig{Endpoint: server.URL}})
}

func downloading(model string, faults hub.Faults) func(*testing.T) wire.Job {
	return func(t *testing.T) wire.Job {
		return modelRig(t, faults).do(`{"operation":"model_download","model":"` + model + `"}`)
	}
}

// jobCodes are the constants of hive/errdefs.
func jobCodes(t *testing.T) (codes []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../hive/errdefs/errdefs.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") {
			return true
		}
		code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		codes = append(codes, code)
		return true
	})
	slices.Sort(codes)
	return codes
}

func TestEveryJobCode(t *testing.T) {
	var listed, provoked []string
	for _, row := range documented(t, "## Why a job failed") {
		listed = append(listed, row[0])
	}
	for code := range failedJobs {
		provoked = append(provoked, code)
	}
	slices.Sort(listed)
	slices.Sort(provoked)
	require.Equal(t, jobCodes(t), listed, "docs/http-reference.md has other codes than hive/errdefs")
	require.Equal(t, listed, provoked, "a code that no job fails with")

	for code, f := range failedJobs {
		t.Run(code, func(t *testing.T) {
			job := f.run(t)
			require.NotNil(t, job.Error, "%+v", job)
			require.Equal(t, code, job.Error.Code, job.Error.Message)
			require.Contains(t, job.Error.Message, f.message)
			require.NotContains(t, job.Error.Message, "\n")
			require.NotNil(t, job.Error.Log)
			want := "failed"
			if code == "cancelled" {
				want = "cancelled"
			}
			require.Equal(t, want, job.State)
			require.Equal(t, "null", string(orNullText(job.Result)), "a job that failed has no result")
			require.NotNil(t, job.FinishedAt)
		})
	}
}

func orNullText(raw json.RawMessage) []byte {
	if raw == nil {
		return []byte("null")
	}
	return raw
}

func failPortsExhausted(t *testing.T) wire.Job {
	r := newRig(t, rigOptions{})
	resp, body := r.send(http.MethodPost, "/v1/leases", `{"ttl":"1h","ports":3}`)
	require.Equal(t, http.StatusCreated, resp.StatusCode, body)
	return r.do(`{"operation":"worker_spawn","worker":"cpu"}`)
}

func failPortUnavailable(t *testing.T) wire.Job {
	r := newRig(t, rigOptions{})
	r.send(http.MethodPost, "/v1/leases", fmt.Sprintf(`{"ttl":"1h","owner":"bob","port":%d}`, r.ports.First))
	return r.do(fmt.Sprintf(`{"operation":"worker_spawn","worker":"cpu","port":%d}`, r.ports.First))
}

func failNameInUse(t *testing.T) wire.Job {
	r := newRig(t, rigOptions{})
	spawn := `{"operation":"worker_spawn","worker":"cpu","name":"a"}`
	require.Equal(t, "succeeded", r.do(spawn).State)
	return r.do(spawn)
}

// failConflict has the built-in type removed.
func failConflict(t *testing.T) wire.Job {
	r := newRig(t, rigOptions{config: func(c *hive.Config) { c.ReloadTypes = func(context.Context) error { return nil } }})
	return r.do(`{"operation":"worker_remove","worker_id":"cpu"}`)
}

func failCancelled(t *testing.T) wire.Job {
	r := newRig(t, rigOptions{}, entry(t, "never", "--unhealthy"))
	sub := r.submit(`{"operation":"worker_spawn","worker":"never"}`)
	r.awaitWorker("never", "starting", "loading")
	resp, body := r.send(http.MethodDelete, "/v1/jobs/"+sub.JobID, "")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	return decode[wire.Job](t, r.get("/v1/jobs/"+sub.JobID, http.StatusOK))
}

// entryOfNoProgram has a program that the kernel does not execute.
func entryOfNoProgram(t *testing.T) catalog.Entry {
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, program.Write(path, []byte("\x7fELF no more"), 0o700))
	return catalog.Entry{Name: "garbage", Command: []string{path}}
}

// failForeignListener has a program take the port of a worker that is asked to
// listen there and does not.
func failForeignListener(t *testing.T) wire.Job {
	r := newRig(t, rigOptions{}, entry(t, "mute", "--no-listen"))
	sub := r.submit(fmt.Sprintf(`{"operation":"worker_spawn","worker":"mute","port":%d}`, r.ports.First))
	r.awaitWorker("mute", "starting", "loading")
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.ports.First))
	require.NoError(t, err)
	defer l.Close()
	return decode[wire.Job](t, r.get("/v1/jobs/"+sub.JobID+"?wait=50s", http.StatusOK))
}

// afterAStart is what a start makes of a job that it finds in the file.
func afterAStart(t *testing.T, state store.JobState, age time.Duration) wire.Job {
	at := time.Now().Add(-age).UTC()
	rec := store.Job{JobID: "job-found", Operation: "hive_check", Request: []byte(`{"operation":"hive_check"}`), State: state, CreatedAt: at}
	if state == store.JobRunning {
		rec.StartedAt = &at
	}
	r := newRig(t, rigOptions{config: func(c *hive.Config) {
		s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(c.DataDir, "hive.db")})
		require.NoError(t, err)
		require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutJob(rec) }))
		require.NoError(t, s.Close())
	}})
	return decode[wire.Job](t, r.get("/v1/jobs/job-found?wait=50s", http.StatusOK))
}

// failStopIncomplete asks for the stop of a worker whose port another hive claims
// when hive is started again.
func failStopIncomplete(t *testing.T) wire.Job {
	r := newRig(t, rigOptions{config: func(c *hive.Config) { c.AuditInterval = 50 * time.Millisecond }})
	w := r.spawn("cpu")
	r.shut()
	other, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(other, &syscall.SockaddrUnix{Name: fmt.Sprintf("@hive-port/%d", w.Port)}))
	r.begin()
	job := r.do(`{"operation":"worker_stop","worker_id":"` + w.WorkerID + `"}`)
	require.NoError(t, syscall.Close(other))
	r.awaitWorker("cpu", "ready") // adopted by a review: it can be ended
	return job
}

// failDiskFull fills the disk after the job was recorded, and before its worker is.
func failDiskFull(t *testing.T) wire.Job {
	d, dir := newSmallDisk(t), t.TempDir()
	e := entry(t, "late")
	e.BeforeStart = []string{"sh", "-c", `: > "$0/begun"; until [ -e "$0/go" ]; do sleep 0.02; done`, dir}
	r := newRig(t, rigOptions{config: d.hold}, e)
	sub := r.submit(`{"operation":"worker_spawn","worker":"late"}`)
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, "begun")); return err == nil }, 20*time.Second, 10*time.Millisecond)
	d.fill()
	defer d.empty(r)
	resp, body := d.untilRefused(r)
	require.Equal(t, http.StatusInsufficientStorage, resp.StatusCode, body)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	return decode[wire.Job](t, r.get("/v1/jobs/"+sub.JobID+"?wait=50s", http.StatusOK))
}

// failInternal takes file descriptors away from the process, so that no port can
// be probed: nothing that a hive expects.
func failInternal(t *testing.T) wire.Job {
	r := newRig(t, rigOptions{})
	r.get("/v1/hive", http.StatusOK) // the connection stays open for the next request
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: before.Max}))
	resp, body := r.send(http.MethodPost, "/v1/jobs?wait=20s", `{"operation":"worker_spawn","worker":"cpu"}`)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	return decode[wire.Job](t, body)
}
