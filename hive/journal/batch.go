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
		job, err := b.Job(jobID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || (job.State.Ended() && typ != store.EventEnd) {
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
