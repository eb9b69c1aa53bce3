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
// errdefs.ErrClosed, errdefs.ErrQueueFull, store.ErrDiskFull, store.ErrFailed, and ctx's:
// then the job may become durable, and be carried out, all the same.
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
	if key == "" {
		_, err := q.accept(ctx, rec, op, "")
		return rec, err
	}
	digest, err := digestOf(raw)
	if err != nil {
		return store.Job{}, err
	}
	release, err := q.claimKey(ctx, key)
	if err != nil {
		return store.Job{}, err
	}
	first, err := q.submitted(key, digest)
	if err != nil || first != "" {
		release()
		return q.repeated(first, err)
	}
	j, err := q.accept(ctx, rec, op, digest)
	// As long as the job can still be recorded under the key, no other may be.
	if err == nil || j == nil || !q.run.Go(func() { j.settled(); release() }) {
		release()
	}
	return rec, err
}

// accept begins a new job and waits until it is durable. The job is nil if it was not begun.
func (q *Queue) accept(ctx context.Context, rec store.Job, op operation.Operation, digest string) (*Job, error) {
	if err := q.admit(); err != nil {
		return nil, err
	}
	j := q.newJob(rec, op, digest)
	if !operation.Of(op).Joins {
		if err := j.accept(ctx, nil); err != nil {
			j.cancel(nil)
			q.active.Add(-1)
			return nil, err
		}
	}
	q.start(j)
	return j, j.awaitAccepted(ctx)
}

// claimKey makes sure that of several requests with one key, which come at once, the second
// finds the job of the first in the file.
func (q *Queue) claimKey(ctx context.Context, key string) (release func(), err error) {
	mine := make(chan struct{})
	for {
		q.mu.Lock()
		other, taken := q.keys[key]
		if !taken {
			q.keys[key] = mine
		}
		q.mu.Unlock()
		if !taken {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.keys, key)
		close(mine)
	}, nil
}

// submitted returns the job that a key stands for; empty: none. Another request under
// the same key is a conflict.
func (q *Queue) submitted(key, digest string) (string, error) {
	var k store.Keyed
	err := q.journal.View(func(tx *store.Tx) (err error) {
		k, err = tx.Keyed(key)
		return err
	})
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
