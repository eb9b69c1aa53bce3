package jobs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/operation"
	"rbeehive/store"

	"github.com/google/uuid"
)

// Submit records a job for a caller, and begins it. When it returns without an error the
// job is durable. An operation that only looks is answered at once, and its job is never
// written.
//
// With an idempotency key: as long as the job that it made has a record, the same key with
// the same request returns that job, also after a restart, and with another request is
// errdefs.ErrConflict (an *errdefs.InputError). Operations that only look are answered anew
// each time. Empty: no key.
//
// Whether the caller may have this is decided before. Errors: errdefs.ErrRecovering,
// errdefs.ErrClosed, errdefs.ErrQueueFull, store.ErrDiskFull, store.ErrFailed, and ctx's
// while the write is queued.
func (q *Queue) Submit(ctx context.Context, by access.Caller, key string, op operation.Operation, raw json.RawMessage) (store.Job, error) {
	if !q.run.Serving() {
		return store.Job{}, errdefs.ErrRecovering
	}
	rec := store.Job{
		JobID:       "job-" + uuid.Must(uuid.NewV7()).String(),
		Operation:   op.Tag(),
		Request:     raw,
		State:       store.JobQueued,
		RequestedBy: by.Record(),
		Key:         key,
		CreatedAt:   time.Now().UTC(),
	}
	// No place in the queue and no commit: rbee's page polls these every 2 s.
	if operation.Of(op).Answer != nil {
		result, err := q.executor.Answer(ctx, op)
		rec = q.queries.add(rec, result, err)
		q.metrics.JobEnded(rec.Operation, rec.State)
		return rec, nil
	}
	digest := ""
	if key != "" {
		var err error
		if digest, err = digestOf(raw); err != nil {
			return store.Job{}, err
		}
		// Before a place in the queue is asked for: this takes none.
		first, err := q.submitted(key, digest)
		if err != nil || first != "" {
			return q.repeated(first, err)
		}
	}
	if err := q.admit(); err != nil {
		return store.Job{}, err
	}
	// Looked up again in the transaction: the same key may have been submitted twice at once.
	first, err := q.record(ctx, rec, op, digest)
	if err != nil || first != "" {
		q.active.Add(-1)
		return q.repeated(first, err)
	}
	// Before start: the job may end at once, and surplusCount must not be wrong then.
	q.kept.Add(1)
	q.start(rec, op)
	return rec, nil
}

// record writes a new job, unless its key stands for one already, whose id is
// returned then.
func (q *Queue) record(ctx context.Context, rec store.Job, op operation.Operation, digest string) (first string, err error) {
	commit := q.journal.Commit
	if operation.Of(op).UsesReserve {
		commit = q.journal.CommitReserved // a full disk does not refuse what helps against it
	}
	err = commit(ctx, func(b *journal.Batch) (err error) {
		// Key and job together: else a request that is repeated after a crash could be a second job.
		if rec.Key == "" {
			err = b.PutJob(rec)
		} else if first, err = keyed(b, rec.Key, digest); err == nil && first == "" {
			err = b.PutKeyedJob(rec, digest)
		}
		if err != nil || first != "" {
			return err
		}
		return b.Event(store.EventState, rec.JobID, "", rec.Operation+" queued by "+access.Name(rec.RequestedBy),
			map[string]any{"job": store.JobQueued, "requested_by": rec.RequestedBy})
	})
	return first, err
}

// keyed returns the job that a key stands for; empty: none. Another request under
// the same key is a conflict.
func keyed(b *journal.Batch, key, digest string) (string, error) {
	k, err := b.Keyed(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	case k.Digest != digest:
		return "", &errdefs.InputError{
			Kind: errdefs.ErrConflict, Field: "Idempotency-Key",
			Detail: "was sent with another request, which is " + k.JobID + "; use a new key for a new request",
		}
	}
	return k.JobID, nil
}

// submitted is keyed without a commit.
func (q *Queue) submitted(key, digest string) (first string, err error) {
	err = q.journal.View(func(tx *store.Tx) error {
		first, err = keyed(&journal.Batch{Tx: tx}, key, digest)
		return err
	})
	return first, err
}

// repeated answers a request that was sent before.
func (q *Queue) repeated(first string, err error) (store.Job, error) {
	if err != nil {
		return store.Job{}, err
	}
	return q.Job(first)
}

// digestOf tells requests apart: those that differ only in white space between
// tokens are the same.
func digestOf(raw json.RawMessage) (string, error) {
	var compact bytes.Buffer
	// A client may indent the same request differently the second time.
	if err := json.Compact(&compact, raw); err != nil {
		return "", fmt.Errorf("digest of a request: %w", err)
	}
	sum := sha256.Sum256(compact.Bytes())
	return hex.EncodeToString(sum[:]), nil
}
