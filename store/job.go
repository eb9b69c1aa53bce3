package store

import (
	"fmt"
	"iter"
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
