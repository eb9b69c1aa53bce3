package jobs

import (
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// Recovery decides what becomes of the jobs that had not ended when hive was stopped or
// killed. Its methods are called once each, in the order in which they stand here.
type Recovery struct {
	q         *Queue
	relocated bool // the first start with a state file that was copied or restored
	active    []store.Job
	goOn      []store.Job // begun once hive serves
}

// RecoveredWorkers finds a worker that had not ended when hive was stopped or killed, and
// says whether it lives.
type RecoveredWorkers interface {
	Find(workerID string) (rec store.Worker, alive bool)
	// Restarts reports whether the restart of a worker that a job had begun is finished.
	Restarts(workerID, jobID string) bool
}

// Load reads the unfinished jobs of the state file.
func (q *Queue) Load(tx *store.Tx, relocated bool) (*Recovery, error) {
	r := &Recovery{q: q, relocated: relocated}
	for job, err := range tx.ActiveJobs() {
		if err != nil {
			return nil, err
		}
		r.active = append(r.active, job)
	}
	return r, nil
}

// Abandoned returns the ids of workers that interrupted jobs had started for themselves
// alone: they are to be stopped.
func (r *Recovery) Abandoned() (workerIDs []string) {
	for _, rec := range r.active {
		// Without a worker id it was interrupted before it had started one.
		if operation.Named(rec.Operation).AfterCrash == operation.StopWorkerToo && rec.WorkerID != "" {
			workerIDs = append(workerIDs, rec.WorkerID)
		}
	}
	return workerIDs
}

// Restarts returns the ids of workers whose restart had begun, by that of the job: they are
// to be started again.
func (r *Recovery) Restarts() map[string]string {
	workers := map[string]string{}
	for _, rec := range r.active {
		if operation.Named(rec.Operation).AfterCrash == operation.AwaitStart && rec.State == store.JobRunning && rec.WorkerID != "" {
			workers[rec.JobID] = rec.WorkerID
		}
	}
	return workers
}

// Record ends the jobs that a crash interrupted. Queued ones that are not too old stay
// queued and are begun once the hive serves, and so do stops that are not over, for asking
// again for a stop does no harm, and starts whose worker is not ready yet, which only wait.
// In the first start with a copied or restored file neither goes on, nor does a download.
// workers are as they were recorded before.
func (r *Recovery) Record(b *journal.Batch, workers RecoveredWorkers) error {
	r.goOn = nil // the transaction may be tried again
	for _, rec := range r.active {
		var err error
		switch result, f := r.outcome(b, rec, workers); {
		case f != nil:
			err = r.q.endJob(b, &rec, store.JobFailed, nil, &f.JobError)
		case result != nil:
			err = r.q.endJob(b, &rec, store.JobSucceeded, result, nil)
		default:
			r.goOn = append(r.goOn, rec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// outcome says how a job has ended: with a result or a failure. Neither: it goes on.
func (r *Recovery) outcome(b *journal.Batch, rec store.Job, workers RecoveredWorkers) (result any, f *errdefs.Failure) {
	after := operation.Named(rec.Operation).AfterCrash
	if r.relocated && (rec.State == store.JobQueued || after.OnlyHere()) {
		// The hive that the file is from may carry it out, or may have done so.
		return nil, errdefs.Fail(errdefs.CodeInterrupted, "the state file was copied or restored: nothing is begun, stopped or downloaded but on a new request")
	}
	if rec.State == store.JobQueued {
		if most := r.q.config().MaxQueueAge; b.Now().Sub(rec.CreatedAt) > most {
			return nil, errdefs.Fail(errdefs.CodeExpired, "queued for more than %s (jobs.max_queue_age)", most)
		}
		return nil, nil
	}
	w, alive := workers.Find(rec.WorkerID)
	switch after {
	case operation.AwaitWorker, operation.AwaitStart:
		if after == operation.AwaitStart && workers.Restarts(rec.WorkerID, rec.JobID) {
			return nil, nil // it waits for the new start
		}
		if after == operation.AwaitStart && w.JobID != rec.JobID {
			break // it has not got as far as the new start
		}
		// It is cancelled or given up: the job must not succeed with a worker that is about to go.
		if alive && w.State == store.WorkerStopping {
			return nil, errdefs.Fail(errdefs.CodeInterrupted, "hive was restarted while it stopped the worker: %s", w.Reason)
		}
		if waits := r.waitsForReady(rec, w); waits && (alive || w.State == store.WorkerBackoff) {
			return nil, nil
		}
		if alive {
			return operation.SpawnedOf(w), nil
		}
	case operation.GoOn:
		return nil, nil
	case operation.GoOnToStop:
		if alive {
			return nil, nil
		}
		// From the transaction, which has the ends of workers already.
		if ended, err := b.Worker(rec.WorkerID); err == nil && ended.State == store.WorkerStopped {
			return operation.StoppedOf(ended), nil
		}
	case operation.FailInterrupted, operation.StopWorkerToo:
	}
	return nil, errdefs.Fail(errdefs.CodeInterrupted, "hive was restarted while the job ran")
}

// waitsForReady reports whether a job that starts a worker is still to wait until it is
// ready. In the first start with a copied or restored file none is: its end would be the
// other hive's to tell.
func (r *Recovery) waitsForReady(rec store.Job, w store.Worker) bool {
	if r.relocated || w.ReadyAt != nil {
		return false
	}
	op, err := r.q.executor.Decode(rec.Request)
	spawn, isSpawn := op.(operation.Spawn)
	return err == nil && (!isSpawn || spawn.Wait != operation.WaitStarted)
}

// Resume begins the jobs that go on once the hive serves.
func (r *Recovery) Resume() {
	for _, rec := range r.goOn {
		r.q.run.WhenServing(func() { r.q.resume(rec) })
	}
}

func (q *Queue) resume(rec store.Job) {
	// Not by admit: what was accepted before is not refused now, however full the queue is.
	q.active.Add(1)
	op, err := q.executor.Decode(rec.Request)
	if err == nil {
		j := q.newJob(rec, op, "")
		close(j.accepted)
		q.start(j)
		return
	}
	q.active.Add(-1)
	// The type may be gone, or the request be one that this version does not know.
	err = q.journal.CommitRequired(func(b *journal.Batch) error {
		return q.endJob(b, &rec, store.JobFailed, nil, &errdefs.Fail(errdefs.CodeInterrupted, "it can no longer be carried out: %v", err).JobError)
	})
	q.journal.LogUnlessClosing(err, "record the end of a job", rec.JobID)
}
