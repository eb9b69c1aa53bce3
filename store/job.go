package store

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
)

// Job returns a job. Errors: ErrNotFound.
func (tx *Tx) Job(id string) (Job, error) {
	var j Job
	if err := tx.get(bucketJobs, []byte(id), &j); err != nil {
		return Job{}, fmt.Errorf("job %s: %w", id, err)
	}
	return j, nil
}

// PutJob writes a job. Errors: ErrInvalid without an id, or if Request or
// Result is no JSON.
func (tx *Tx) PutJob(j Job) error {
	if j.JobID == "" {
		return fmt.Errorf("job: %w: no job id", ErrInvalid)
	}
	if err := tx.put(bucketJobs, []byte(j.JobID), j); err != nil {
		return fmt.Errorf("write job %s: %w", j.JobID, err)
	}
	return nil
}

// DeleteJob removes a job with its events, also from the index of their
// workers. It need not exist.
func (tx *Tx) DeleteJob(id string) error {
	if err := tx.del(bucketJobs, []byte(id)); err != nil {
		return fmt.Errorf("delete job %s: %w", id, err)
	}
	if err := tx.dropIndex(bucketByJob, id, func(Event) bool { return true }); err != nil {
		return fmt.Errorf("delete job %s: %w", id, err)
	}
	return nil
}

// Jobs yields jobs by id, which for job-<uuid v7> is by time, starting behind
// the job with id after (which need not exist; empty: from the end that the
// order begins with). The loop may write. An error ends it.
func (tx *Tx) Jobs(after string, newestFirst bool) iter.Seq2[Job, error] {
	o := scanOptions{reverse: newestFirst}
	if after != "" {
		o.after = []byte(after)
	}
	return decodeAll[Job](tx, bucketJobs, o)
}

// unfinished are the forms in which PutJob writes the state of a job that has
// not ended: encoding/json writes a struct's fields compactly and in order.
var unfinished = [][]byte{[]byte(`"state":"queued"`), []byte(`"state":"running"`)}

// ActiveJobs yields the jobs that have not ended, oldest first. It reads every
// job's record and decodes only those that may be of that kind: a week of ended
// jobs must not delay a recovery. An error ends it.
func (tx *Tx) ActiveJobs() iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		for e, err := range tx.scan(bucketJobs, scanOptions{}) {
			var j Job
			if err == nil && !slices.ContainsFunc(unfinished, func(form []byte) bool { return bytes.Contains(e.payload, form) }) {
				continue
			}
			if err == nil {
				err = tx.decode(bucketJobs, e.key, e.payload, &j)
			}
			if err == nil && j.State.Ended() {
				continue // its request only looks like it
			}
			if !yield(j, err) || err != nil {
				return
			}
		}
	}
}
