package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// Job returns a job as it is now, or errdefs.ErrNotFound.
func (q *Queue) Job(id string) (store.Job, error) {
	j := q.find(id)
	if j != nil {
		return j.Record(), nil
	}
	if rec, ok := q.queries.job(id); ok {
		return rec, nil
	}
	var rec store.Job
	err := q.journal.View(func(tx *store.Tx) (err error) {
		rec, err = tx.Job(id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return rec, fmt.Errorf("job %q: %w", plain.Short(id), errdefs.ErrNotFound)
	}
	return rec, err
}

// Wait blocks until the job has ended or ctx ends, and returns the job as
// it is then. An ended ctx is not an error.
func (q *Queue) Wait(ctx context.Context, id string) (store.Job, error) {
	for {
		rec, again, err := q.waitOnce(ctx, id)
		if !again {
			return rec, err
		}
	}
}

// waitOnce waits for the end of a job, or, if it is recorded and whoever submitted
// it has not come to begin it, for its next event; then it is to be called again.
func (q *Queue) waitOnce(ctx context.Context, id string) (rec store.Job, again bool, err error) {
	// Before the job is looked up, or an end in between would be missed.
	wake, leave := q.journal.Watch(id)
	defer leave()
	j := q.find(id)
	if j == nil {
		rec, err = q.Job(id)
		if err != nil || rec.State.Ended() {
			return rec, false, err
		}
		// Recorded, and not in the table: whoever submitted it has not come to begin it, or hive recovers.
		select {
		case <-wake:
			return rec, true, nil
		case <-ctx.Done():
		case <-q.run.Context().Done():
		}
		return rec, false, nil
	}
	select {
	case <-j.done:
	case <-ctx.Done():
	}
	return j.Record(), false, nil
}

// Filter selects jobs. The zero value selects all.
type Filter struct {
	State     store.JobState
	Operation string
	Limit     int    // at most this many; 0: 100
	After     string // job id of the last job of the page before
}

// List returns a page of recorded jobs, newest first, and the cursor of the
// next page, empty when there is none.
func (q *Queue) List(f Filter) (jobs []store.Job, next string, err error) {
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	if f.State == store.JobQueued || f.State == store.JobRunning {
		return q.unfinished(f, limit) // without reading a week of ended ones
	}
	err = q.journal.View(func(tx *store.Tx) error {
		for rec, err := range tx.Jobs(f.After, true) {
			if err != nil {
				return err
			}
			j := q.find(rec.JobID)
			// In memory it may already be running: that is written with the next commit.
			if j != nil && !rec.State.Ended() {
				rec = j.Record()
			}
			if (f.State != "" && f.State != rec.State) || (f.Operation != "" && f.Operation != rec.Operation) {
				continue
			}
			// One more was found, so there is a next page.
			if len(jobs) == limit {
				next = jobs[limit-1].JobID
				return nil
			}
			jobs = append(jobs, rec)
		}
		return nil
	})
	return jobs, next, err
}

// unfinished is List for the states that only jobs in memory have.
func (q *Queue) unfinished(f Filter, limit int) (jobs []store.Job, next string, err error) {
	q.mu.Lock()
	for _, j := range q.jobs {
		rec := j.Record()
		if j.isAccepted() && rec.State == f.State && (f.Operation == "" || f.Operation == rec.Operation) && (f.After == "" || rec.JobID < f.After) {
			jobs = append(jobs, rec)
		}
	}
	q.mu.Unlock()
	slices.SortFunc(jobs, func(a, b store.Job) int { return cmp.Compare(b.JobID, a.JobID) })
	if len(jobs) > limit {
		jobs, next = jobs[:limit], jobs[limit-1].JobID
	}
	return jobs, next, nil
}

// Cancel cancels a job and waits until what it had begun is undone. Errors:
// errdefs.ErrNotFound; an *InputError of kind errdefs.ErrForbidden unless the caller has submitted it
// or is an admin; errdefs.ErrConflict if it has ended, or ended before it could be
// cancelled, or cannot be cancelled; ctx's.
func (q *Queue) Cancel(ctx context.Context, by access.Caller, id string) (store.Job, error) {
	if rec, err := q.Job(id); err != nil || !by.Rights.May(access.Admin) && !by.Same(rec.RequestedBy) {
		return store.Job{}, cmp.Or(err, error(&errdefs.InputError{Kind: errdefs.ErrForbidden, Detail: fmt.Sprintf(
			"job %s was submitted by %s, and only they and admins may cancel it; the caller is %s", id, access.Name(rec.RequestedBy), by)}))
	}
	j := q.find(id)
	if j == nil {
		rec, err := q.Job(id)
		if err != nil {
			return rec, err
		}
		// Recorded, and its Submit has not come to put it into the table.
		if !rec.State.Ended() {
			return rec, fmt.Errorf("%w: job %s is about to begin; try again", errdefs.ErrConflict, id)
		}
		return rec, fmt.Errorf("%w: job %s has already ended (%s)", errdefs.ErrConflict, id, rec.State)
	}
	if !j.tryCancel() {
		return j.Record(), fmt.Errorf("%w: a %s cannot be cancelled once it has begun", errdefs.ErrConflict, j.op.Tag())
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		return j.Record(), ctx.Err()
	}
	rec := j.Record()
	// It may have been about to end anyway; what was recorded counts.
	if rec.State != store.JobCancelled {
		return rec, fmt.Errorf("%w: job %s ended first (%s)", errdefs.ErrConflict, id, rec.State)
	}
	return rec, nil
}

// Unfinished counts the jobs that have not ended, by state.
func (q *Queue) Unfinished() map[store.JobState]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := map[store.JobState]int{store.JobQueued: 0, store.JobRunning: 0}
	for _, j := range q.jobs {
		if state := j.Record().State; !state.Ended() {
			n[state]++
		}
	}
	return n
}

// Events returns the events of a job after its event number after (JobSeq), from the
// beginning for 0. The iteration follows a running job and ends after its end event, when
// ctx ends, when the hive closes, or with an error of the store. The error returned at
// once is errdefs.ErrNotFound for an unknown job.
func (q *Queue) Events(ctx context.Context, id string, after uint64) (iter.Seq2[store.Event, error], error) {
	if _, err := q.Job(id); err != nil {
		return nil, err
	}
	events, ok := q.queries.events(id)
	if !ok {
		return q.journal.JobEvents(ctx, id, after), nil
	}
	return func(yield func(store.Event, error) bool) {
		for _, ev := range events {
			if ev.JobSeq > after && !yield(ev, nil) {
				return
			}
		}
	}, nil
}
