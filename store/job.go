package store

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"

	"rbeehive/store/internal/kv"
)

// Job returns a job. Errors: ErrNotFound.
func (tx *Tx) Job(id string) (Job, error) {
	var j Job
	if err := tx.kv.Get(kv.Jobs, []byte(id), &j); err != nil {
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
	if err := tx.kv.Put(kv.Jobs, []byte(j.JobID), j); err != nil {
		return fmt.Errorf("write job %s: %w", j.JobID, err)
	}
	return nil
}

// Keyed is the request that an idempotency key stands for, as long as its job
// has a record.
type Keyed struct {
	JobID string `json:"job_id"`
	// Digest is the SHA-256 of the request, in hex.
	Digest string `json:"digest"`
}

// Keyed returns what was submitted with an idempotency key. Errors: ErrNotFound.
func (tx *Tx) Keyed(key string) (Keyed, error) {
	var k Keyed
	if err := tx.kv.Get(kv.Keys, []byte(key), &k); err != nil {
		return Keyed{}, fmt.Errorf("idempotency key: %w", err)
	}
	return k, nil
}

// PutKeyedJob writes a job for the first time and lets its Key stand for it.
// Errors: ErrInvalid if the key is empty or stands for a job already.
func (tx *Tx) PutKeyedJob(j Job, digest string) error {
	// Never replaced: the first job is the answer to every repetition.
	taken, err := tx.kv.Has(kv.Keys, []byte(j.Key))
	if err != nil {
		return fmt.Errorf("idempotency key: %w", err)
	}
	if j.Key == "" || taken {
		return fmt.Errorf("job %s: %w: its idempotency key is empty or taken", j.JobID, ErrInvalid)
	}
	if err := tx.kv.Put(kv.Keys, []byte(j.Key), Keyed{j.JobID, digest}); err != nil {
		return fmt.Errorf("write an idempotency key: %w", err)
	}
	return tx.PutJob(j)
}

// CountJobs counts the jobs that have a record, without reading them.
func (tx *Tx) CountJobs() (int, error) { return tx.kv.Count(kv.Jobs) }

// DeleteJob removes a job with its idempotency key and its events, also from the
// index of their workers. It need not exist.
func (tx *Tx) DeleteJob(id string) error {
	switch j, err := tx.Job(id); {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return fmt.Errorf("delete: %w", err)
	// With its key, which would else stand for a job that is gone.
	case j.Key != "":
		if err := tx.kv.Delete(kv.Keys, []byte(j.Key)); err != nil {
			return fmt.Errorf("delete job %s: %w", id, err)
		}
	}
	if err := tx.kv.Delete(kv.Jobs, []byte(id)); err != nil {
		return fmt.Errorf("delete job %s: %w", id, err)
	}
	if err := tx.dropIndex(kv.ByJob, id, func(Event) bool { return true }); err != nil {
		return fmt.Errorf("delete job %s: %w", id, err)
	}
	return nil
}

// Jobs yields jobs by id, which for job-<uuid v7> is by time, starting after the job with
// id after (which need not exist; empty: from the end that the order begins with). The loop
// may write. An error ends it.
func (tx *Tx) Jobs(after string, newestFirst bool) iter.Seq2[Job, error] {
	o := kv.Range{Reverse: newestFirst}
	if after != "" {
		o.After = []byte(after)
	}
	return kv.All[Job](tx.kv, kv.Jobs, o)
}

// unfinished are the forms in which PutJob writes the state of a job that has
// not ended: encoding/json writes a struct's fields compactly and in order.
var unfinished = [][]byte{[]byte(`"state":"queued"`), []byte(`"state":"running"`)}

// ActiveJobs yields the jobs that have not ended, oldest first. It reads every
// job's record and decodes only those that may be of that kind: a week of ended
// jobs must not delay a recovery. An error ends it.
func (tx *Tx) ActiveJobs() iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		for e, err := range tx.kv.Scan(kv.Jobs, kv.Range{}) {
			var j Job
			// Before decoding, which is most of the work.
			if err == nil && !slices.ContainsFunc(unfinished, func(form []byte) bool { return bytes.Contains(e.Payload, form) }) {
				continue
			}
			if err == nil {
				err = tx.kv.Decode(kv.Jobs, e.Key, e.Payload, &j)
			}
			if err == nil && j.State.Ended() {
				continue // only its request contains such a form
			}
			if !yield(j, err) || err != nil {
				return
			}
		}
	}
}
