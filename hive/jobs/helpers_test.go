package jobs_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/hive/journal"
	"rbeehive/hive/operation"
	"rbeehive/hive/run"
	"rbeehive/store"
	"rbeehive/store/storetest"
)

// long bounds what must happen: a test that reaches it has failed.
const long = 20 * time.Second

// Requests, as they come.
const (
	spawnA    = `{"operation":"worker_spawn","worker":"cpu","name":"a"}`
	spawnB    = `{"operation":"worker_spawn","worker":"cpu","name":"b"}`
	stopA     = `{"operation":"worker_stop","worker_id":"a"}`
	restartA  = `{"operation":"worker_restart","worker_id":"a"}`
	check     = `{"operation":"hive_check"}`
	install   = `{"operation":"worker_install","worker_id":"cpu"}`
	listing   = `{"operation":"worker_process_list"}`
	badLookup = `{"operation":"worker_process_get","pid":4711}`
)

// rig is a queue over a real state file, with an executor that does what the test says.
type rig struct {
	*jobs.Queue
	t     *testing.T
	store *store.Store
	run   *run.State
	exec  *executor
	logs  *test.Hook

	mu      sync.Mutex
	config  jobs.Config
	workers map[string]store.Worker // by id and name
	ended   []string                // "operation state", as metrics are told
}

// newRig returns a queue that does not serve yet.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		t: t, store: storetest.Open(t), workers: map[string]store.Worker{},
		config: jobs.Config{Retention: time.Hour, Keep: 1000, MaxQueued: 100, MaxQueueAge: time.Minute},
	}
	r.open()
	t.Cleanup(r.shut)
	return r
}

// serving returns a queue that serves.
func serving(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.run.Serve()
	return r
}

func (r *rig) open() {
	r.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	r.logs, r.run, r.exec = test.NewLocal(log), run.New(), &executor{calls: map[string]*call{}}
	q, err := jobs.New(jobs.Options{
		Run: r.run, Journal: journal.New(r.run.Context(), r.store, "/data", log), Executor: r.exec,
		Workers: r, Metrics: r, Config: r.configNow, DataDir: "/data", Log: log,
	})
	require.NoError(r.t, err)
	r.Queue = q
}

func (r *rig) shut() {
	r.run.Close()
	r.run.Wait()
}

// restart closes the queue, as at the end of a hive, and opens the next one, which does not
// serve yet.
func (r *rig) restart() {
	r.t.Helper()
	r.shut()
	r.open()
}

func (r *rig) configNow() jobs.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config
}

func (r *rig) configure(edit func(*jobs.Config)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit(&r.config)
}

// Worker implements jobs.Workers.
func (r *rig) Worker(ref string) (store.Worker, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w, ok := r.workers[ref]; ok {
		return w, nil
	}
	return store.Worker{}, errdefs.ErrNotFound
}

// JobEnded implements jobs.Metrics.
func (r *rig) JobEnded(op string, state store.JobState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, op+" "+string(state))
}

func (r *rig) counted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ended)
}

// try submits a request of hive itself.
func (r *rig) try(ctx context.Context, key, raw string) (store.Job, error) {
	r.t.Helper()
	op, _, err := operation.Decode([]byte(raw))
	require.NoError(r.t, err)
	return r.Submit(ctx, access.Hive(), key, op, []byte(raw))
}

// submit submits a request that is accepted, and returns the id of its job.
func (r *rig) submit(raw string) string {
	r.t.Helper()
	rec, err := r.try(r.t.Context(), "", raw)
	require.NoError(r.t, err)
	return rec.JobID
}

// begun waits until a job is carried out.
func (r *rig) begun(id string) *call {
	r.t.Helper()
	var c *call
	r.eventually("the job begins", func() bool { c = r.exec.call(id); return c != nil })
	return c
}

// waits requires that a job says that it waits for another, and has not begun.
func (r *rig) waits(id, other string) {
	r.t.Helper()
	r.eventually("the job says that it waits", func() bool {
		return slices.ContainsFunc(r.recordedEvents(id), func(ev store.Event) bool {
			return string(ev.Data) == `{"job":"queued","waits_for":"`+other+`"}`
		})
	})
	require.Nil(r.t, r.exec.call(id), "it has begun all the same")
}

// wait returns a job when it has ended.
func (r *rig) wait(id string) store.Job {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), long)
	defer cancel()
	rec, err := r.Wait(ctx, id)
	require.NoError(r.t, err)
	require.True(r.t, rec.State.Ended(), "%s is still %s", id, rec.State)
	return rec
}

// idle waits until no job is left in the table.
func (r *rig) idle() {
	r.t.Helper()
	r.eventually("no job is left", func() bool { return r.Active() == 0 })
}

// recorded is a job as it is in the file.
func (r *rig) recorded(id string) (rec store.Job, err error) {
	err = r.store.View(func(tx *store.Tx) error { rec, err = tx.Job(id); return err })
	return rec, err
}

func (r *rig) recordedEvents(id string) (evs []store.Event) {
	r.t.Helper()
	require.NoError(r.t, r.store.View(func(tx *store.Tx) (err error) { evs, err = tx.JobEvents(id, 0, 0); return err }))
	return evs
}

// put writes records as an earlier hive has left them.
func (r *rig) put(recs ...store.Job) {
	r.t.Helper()
	require.NoError(r.t, r.store.Update(r.t.Context(), func(tx *store.Tx) error {
		for _, rec := range recs {
			if err := tx.PutJob(rec); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	require.Eventually(r.t, ok, long, time.Millisecond, what)
}

// executor does with a job what the test says, or waits until the job is cancelled.
type executor struct {
	mu    sync.Mutex
	calls map[string]*call
	order []string                               // ids of jobs, as they began
	asked int                                    // how many queries were answered
	first func(context.Context, *jobs.Job) error // what a job does at once; nil: nothing
}

// call is a job that is being carried out.
type call struct {
	*jobs.Job
	ctx    context.Context
	answer chan outcome
}

type outcome struct {
	result any
	err    error
}

// ends lets the job end.
func (c *call) ends(result any, err error) { c.answer <- outcome{result, err} }

func (e *executor) call(id string) *call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[id]
}

func (e *executor) Execute(ctx context.Context, j *jobs.Job) (any, error) {
	c := &call{Job: j, ctx: ctx, answer: make(chan outcome, 1)}
	e.mu.Lock()
	e.calls[j.ID()] = c
	e.order = append(e.order, j.ID())
	first := e.first
	e.mu.Unlock()
	if first != nil {
		if err := first(ctx, j); err != nil {
			return nil, err
		}
	}
	select {
	case o := <-c.answer:
		return o.result, o.err
	case <-ctx.Done():
	}
	select {
	case o := <-c.answer: // it was there first
		return o.result, o.err
	default:
		return nil, context.Cause(ctx)
	}
}

func (e *executor) Answer(_ context.Context, op operation.Operation) (any, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	if op.Tag() == "worker_process_get" {
		return nil, errdefs.Fail(errdefs.CodeNotFound, "no such process")
	}
	return map[string]int{"asked": e.asked}, nil
}

func (e *executor) Decode(raw []byte) (operation.Operation, error) {
	op, _, err := operation.Decode(raw)
	if s, ok := op.(operation.Spawn); ok && s.Worker == "gone" {
		return nil, errors.New("no such worker type")
	}
	return op, err
}

func now() time.Time { return time.Now().UTC() }

func decoded(t testing.TB, raw string) operation.Operation {
	t.Helper()
	op, _, err := operation.Decode([]byte(raw))
	require.NoError(t, err)
	return op
}
