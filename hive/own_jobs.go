package hive

import (
	"context"
	"encoding/json"

	"github.com/sirupsen/logrus"

	"rbeehive/hive/access"
	"rbeehive/hive/jobs"
	"rbeehive/hive/operation"
	"rbeehive/hive/run"
	"rbeehive/store"
)

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
