package hive

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/input"
	"rbeehive/hive/jobs"
	"rbeehive/hive/operation"
	"rbeehive/hive/run"
	"rbeehive/store"
)

// autostart starts workers of the types that ask for it. It acts only by jobs, which
// anybody can see.
type autostart struct {
	run      *run.State
	types    func() *catalog.Catalog
	parallel func() int                   // how many are started at once
	missing  func(workerType string) bool // no worker of the type lives, or is to stay stopped
	check    func(operation.Spawn) error  // what the type does not take
	jobs     *jobs.Queue
	log      *logrus.Logger

	mu    sync.Mutex      // nothing else is locked while it is held
	begun map[string]bool // types whose autostart is under way
}

func newAutostart(h *Hive) *autostart {
	return &autostart{
		run: h.run, types: h.current.types, parallel: func() int { return h.settings().StartParallel }, missing: h.supervisor.Missing,
		check: h.types.CheckSpawn, jobs: h.jobs, log: h.cfg.Log, begun: map[string]bool{},
	}
}

// start starts a worker of each type that asks for it and has none, each until it is
// ready or has failed. It returns when all have been tried or the hive closes.
func (a *autostart) start() {
	var g errgroup.Group
	g.SetLimit(a.parallel())
	for _, typ := range a.types().Types() {
		if !typ.Autostart || !a.missing(typ.Name) || !a.begin(typ.Name) {
			continue
		}
		g.Go(func() error {
			defer a.end(typ.Name)
			if a.run.Accepting() {
				a.startOne(typ)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: each job says what became of it
}

// begin notes that a type is being started, and reports whether it was not already: a
// reload may come while the start of hive is still at it.
func (a *autostart) begin(workerType string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.begun[workerType] {
		return false
	}
	a.begun[workerType] = true
	return true
}

func (a *autostart) end(workerType string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.begun, workerType)
}

// startOne submits the spawn of a type's worker and waits for its job. The worker has the
// type's name if that is a name for workers, and with it a port that stays the same.
func (a *autostart) startOne(typ *catalog.Type) {
	op := operation.Spawn{Worker: typ.Name, Wait: operation.WaitReady}
	request := map[string]string{"operation": op.Tag(), "worker": typ.Name}
	if input.WorkerName(typ.Name) == nil {
		op.Name, request["name"] = typ.Name, typ.Name
	}
	log := a.log.WithField("type", typ.Name)
	if err := a.check(op); err != nil {
		log.WithError(err).Error("autostart: the entry cannot be started as it is")
		return
	}
	raw, err := json.Marshal(request)
	if err != nil { // a map of strings always encodes
		return
	}
	job, err := perform(a.run.Context(), a.jobs, op, raw)
	switch {
	case a.run.Closing():
	case err != nil:
		log.WithError(err).Error("autostart: the spawn was not taken")
	case job.Error != nil:
		log.WithField("job", job.JobID).WithField("code", job.Error.Code).Error("autostart: " + job.Error.Message)
	}
}

// perform submits a job of hive's own and waits until it has ended.
func perform(ctx context.Context, q *jobs.Queue, op operation.Operation, raw json.RawMessage) (store.Job, error) {
	job, err := q.Submit(ctx, access.Hive(), "", op, raw)
	if err != nil {
		return job, err
	}
	return q.Wait(ctx, job.JobID)
}

// restartStale restarts a stale worker by a job, and waits for it.
func restartStale(ctx context.Context, r *run.State, q *jobs.Queue, logger *logrus.Logger, workerID string) {
	op := operation.RestartWorker{WorkerID: workerID, IfStale: true}
	raw, err := json.Marshal(map[string]any{"operation": op.Tag(), "worker_id": workerID, "if_stale": true})
	if err != nil { // strings and a bool always encode
		return
	}
	log := logger.WithField("worker", workerID)
	job, err := perform(ctx, q, op, raw)
	switch {
	case r.Closing():
	case err != nil:
		log.WithError(err).Error("reload: the restart was not taken")
	case job.Error != nil:
		log.WithField("job", job.JobID).WithField("code", job.Error.Code).Error("reload: the worker was not restarted: " + job.Error.Message)
	}
}
