package journal

import (
	"encoding/json"
	"errors"
	"fmt"

	"rbeehive/store"
	"rbeehive/store/plain"
)

// Batch is one transaction with its events: whoever listens to what they are about
// is woken after the commit.
type Batch struct {
	*store.Tx
	topics []string // whose listeners are to be woken
	after  []func()
	open   map[string]bool // jobs that this transaction has seen -> that they have not ended
}

// OnCommit has f called once the transaction is durable, before listeners are woken.
func (b *Batch) OnCommit(f func()) { b.after = append(b.after, f) }

// Event appends an event, whose message becomes plain text: names that anybody can
// choose are in it. data may be nil; it must be encodable as JSON. An
// event of a job that has ended is an event of its worker only: nothing follows
// the end event of a job.
func (b *Batch) Event(typ store.EventType, jobID, workerID, message string, data any) error {
	// An event of a worker names the job that started it, which may be pruned by now.
	if jobID != "" {
		open, known, err := b.jobIsOpen(jobID)
		if err != nil {
			return err
		}
		if !known || !open && typ != store.EventEnd {
			jobID = ""
		}
	}
	ev := store.Event{Type: typ, JobID: jobID, WorkerID: workerID, Message: plain.Text(message)}
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("encode %s event: %w", typ, err)
		}
		ev.Data = raw
	}
	if jobID != "" {
		b.topics = append(b.topics, jobID)
	}
	b.topics = append(b.topics, everything)
	_, err := b.AppendEvent(ev)
	return err
}

// jobIsOpen reports whether a job has a record, and has not ended. It is decoded once for
// all its events in this transaction.
func (b *Batch) jobIsOpen(id string) (open, known bool, err error) {
	if open, known = b.open[id]; known {
		return open, true, nil
	}
	job, err := b.Job(id)
	if errors.Is(err, store.ErrNotFound) {
		return false, false, nil
	}
	if err == nil {
		b.note(job)
	}
	return !job.State.Ended(), true, err
}

func (b *Batch) note(j store.Job) {
	if b.open == nil {
		b.open = map[string]bool{}
	}
	b.open[j.JobID] = !j.State.Ended()
}

// PutJob is store.Tx.PutJob.
func (b *Batch) PutJob(j store.Job) error {
	b.note(j)
	return b.Tx.PutJob(j)
}

// PutKeyedJob is store.Tx.PutKeyedJob.
func (b *Batch) PutKeyedJob(j store.Job, digest string) error {
	b.note(j)
	return b.Tx.PutKeyedJob(j, digest)
}

// DeleteJob is store.Tx.DeleteJob.
func (b *Batch) DeleteJob(id string) error {
	delete(b.open, id)
	return b.Tx.DeleteJob(id)
}
