package hive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/alloc"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/hive/proc"
	_ "rbeehive/hive/proc/gate" // the test binary is its own gate
	"rbeehive/hive/reference"
	"rbeehive/store"
	"rbeehive/store/storetest"
	"rbeehive/test/freeport"
)

// TestMain is the reference worker when it is started as one, and a stand-in for a real
// program when it is started under that program's name.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(reference.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "port-user" {
		os.Exit(runPortUser(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "silent" {
		os.Exit(silentMain())
	}
	if code, ok := asStandIn(); ok {
		os.Exit(code)
	}
	reaper, err := proc.NewReaper(func(int) {})
	if err != nil {
		panic(err)
	}
	defer reaper.Close()
	syscall.Umask(0o022) // with 002 t.TempDir is no place that hive believes
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// rig is a data directory and the hive that runs on it.
type rig struct {
	*testing.T
	cfg  hive.Config
	h    *hive.Hive
	stop func() error // stops Run
	ran  chan error   // what Run returns
}

func freeRange(t *testing.T, n int) alloc.Range {
	t.Helper()
	first, err := freeport.Range(n)
	require.NoError(t, err)
	return alloc.Range{First: uint16(first), Last: uint16(first + n - 1)}
}

// newRig makes a configuration with a range of n ports. Every worker that is
// left at the end of the test is stopped, and the state file is checked.
func newRig(t *testing.T, n int, entries ...catalog.Entry) *rig {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	types, err := catalog.New(entries, self)
	require.NoError(t, err)
	log := logrus.New()
	log.SetOutput(io.Discard)
	if testing.Verbose() {
		log.SetOutput(t.Output())
		log.SetLevel(logrus.DebugLevel)
	}
	dir := t.TempDir()
	r := &rig{T: t, cfg: hive.Config{
		DataDir: dir, URL: "http://127.0.0.1:1", Catalog: types, Log: log,
		Ports: hive.PortsConfig{Range: freeRange(t, n)},
	}}
	t.Cleanup(func() {
		if r.h == nil {
			r.open()
		}
		require.NoError(t, r.h.StopWorkers(context.Background()))
		r.close()
		storetest.Check(t, filepath.Join(dir, "hive.db"))
	})
	return r
}

// types changes the worker types; before open.
func (r *rig) types(entries ...catalog.Entry) {
	r.Helper()
	self, err := os.Executable()
	require.NoError(r, err)
	r.cfg.Catalog, err = catalog.New(entries, self)
	require.NoError(r, err)
}

// open opens, recovers and runs.
func (r *rig) open() {
	r.Helper()
	h, err := hive.Open(context.Background(), r.cfg)
	require.NoError(r, err)
	r.h = h
	require.NoError(r, h.Recover(context.Background()))
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	r.ran = ran
	go func() { ran <- h.Run(ctx) }()
	r.stop = func() error { cancel(); return <-ran }
}

// close lets go of the workers, as SIGTERM does.
func (r *rig) close() {
	r.Helper()
	require.NoError(r, r.stop())
	require.NoError(r, r.h.Close())
	r.h = nil
}

// submit submits an operation and returns the job.
func (r *rig) submit(op map[string]any) store.Job {
	r.Helper()
	raw, err := json.Marshal(op)
	require.NoError(r, err)
	decoded, err := r.h.Decode(raw)
	require.NoError(r, err)
	job, err := r.h.Submit(context.Background(), decoded, raw)
	require.NoError(r, err)
	return job
}

// do carries out an operation to its end.
func (r *rig) do(op map[string]any) store.Job {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	job, err := r.h.WaitJob(ctx, r.submit(op).JobID)
	require.NoError(r, err)
	require.True(r, job.State.Ended(), "job %s is still %s after a minute", job.Operation, job.State)
	return job
}

// result is what a spawn says.
type result struct {
	WorkerID string `json:"worker_id"`
	Port     uint16 `json:"port"`
	PID      int    `json:"pid"`
	Status   string `json:"status"`
	LeaseID  string `json:"lease_id"`
	URL      string `json:"url"`
}

func (r *rig) spawn(typ string, more ...map[string]any) result {
	r.Helper()
	op := map[string]any{"operation": "worker_spawn", "worker": typ}
	for _, m := range more {
		for k, v := range m {
			op[k] = v
		}
	}
	job := r.do(op)
	require.Equal(r, store.JobSucceeded, job.State, "%+v", job.Error)
	var res result
	require.NoError(r, json.Unmarshal(job.Result, &res))
	return res
}

func (r *rig) stopWorker(id string) {
	r.Helper()
	job := r.do(map[string]any{"operation": "worker_stop", "worker_id": id})
	require.Equal(r, store.JobSucceeded, job.State, "%+v", job.Error)
}

func (r *rig) leases() []store.Lease {
	r.Helper()
	leases, err := r.h.Leases()
	require.NoError(r, err)
	return leases
}

// port is the n-th port of the range.
func (r *rig) port(n int) uint16 { return r.cfg.Ports.Range.First + uint16(n) }

// eventually waits for a condition: as long as that may take where two other jobs keep the
// machine busy. What never comes about is not missed by waiting longer.
func (r *rig) eventually(what string, ok func() bool) {
	r.Helper()
	require.Eventually(r, ok, time.Minute, 2*time.Millisecond, what)
}

// never watches that a condition does not come about. Unlike require.Never it
// looks from the test's own goroutine, and no look outlives it.
func (r *rig) never(what string, d time.Duration, bad func() bool) {
	r.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		require.False(r, bad(), what)
	}
}

// alive reports whether a process exists and is not over: a leader that is a
// zombie while its threads are still ending is alive, for hive too.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // from field 3 of proc_pid_stat(5)
	return f[0] != "X" && (f[0] != "Z" || f[17] != "1")
}

func kill9(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

func ref[T any](v T) *T { return &v }

// plain is parameters of which an entry says nothing but the default.
func plain(defaults map[string]string) map[string]catalog.ParamEntry {
	params := map[string]catalog.ParamEntry{}
	for name, value := range defaults {
		params[name] = catalog.ParamEntry{Default: &value}
	}
	return params
}
