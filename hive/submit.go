package hive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"rbeehive/hive/access"
	"rbeehive/store"
)

// SubmitFor is Submit for a caller, with an idempotency key: as long as the job that it
// made has a record, the same key with the same request returns that job, also after a
// restart, and with another request is ErrConflict (an *InputError). Operations
// that only look are answered anew each time. Empty: no key. What the caller may not
// do is an *InputError of kind ErrForbidden.
func (h *Hive) SubmitFor(ctx context.Context, by access.Caller, key string, op Operation, raw json.RawMessage) (store.Job, error) {
	if !h.serving.Load() {
		return store.Job{}, ErrRecovering
	}
	op, err := h.Authorize(by, op)
	if err != nil {
		return store.Job{}, err
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
	if answer, ok := h.answer(ctx, op); ok {
		rec = h.volatile.add(rec, answer)
		h.metrics.jobEnded(rec.Operation, rec.State)
		return rec, nil
	}
	digest := ""
	if key != "" {
		if digest, err = digestOf(raw); err != nil {
			return store.Job{}, err
		}
		// Before a place in the queue is asked for: this takes none.
		first, err := h.submitted(key, digest)
		if err != nil || first != "" {
			return h.repeated(first, err)
		}
	}
	if err := h.admit(); err != nil {
		return store.Job{}, err
	}
	first, err := h.record(ctx, rec, op, digest)
	if err != nil || first != "" {
		h.active.Add(-1)
		return h.repeated(first, err)
	}
	h.kept.Add(1)
	h.start(rec, op)
	return rec, nil
}

// record writes a new job, unless its key stands for one already, whose id is
// returned then.
func (h *Hive) record(ctx context.Context, rec store.Job, op Operation, digest string) (first string, err error) {
	err = h.write(ctx, op, func(b *batch) (err error) {
		if rec.Key == "" {
			err = b.PutJob(rec)
		} else if first, err = b.keyed(rec.Key, digest); err == nil && first == "" {
			err = b.PutKeyedJob(rec, digest)
		}
		if err != nil || first != "" {
			return err
		}
		return b.event(store.EventState, rec.JobID, "", rec.Operation+" queued by "+access.Name(rec.RequestedBy),
			map[string]any{"job": store.JobQueued, "requested_by": rec.RequestedBy})
	})
	return first, err
}

// keyed returns the job that a key stands for; empty: none. Another request under
// the same key is a conflict.
func (b *batch) keyed(key, digest string) (string, error) {
	k, err := b.Keyed(key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	case k.Digest != digest:
		return "", &InputError{
			Kind: ErrConflict, Field: "Idempotency-Key",
			Detail: "was sent with another request, which is " + k.JobID + "; use a new key for a new request",
		}
	}
	return k.JobID, nil
}

// submitted is keyed without a commit.
func (h *Hive) submitted(key, digest string) (first string, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		first, err = (&batch{Tx: tx}).keyed(key, digest)
		return err
	})
	return first, err
}

// repeated answers a request that was sent before.
func (h *Hive) repeated(first string, err error) (store.Job, error) {
	if err != nil {
		return store.Job{}, err
	}
	return h.Job(first)
}

// digestOf tells requests apart: those that differ only in white space between
// tokens are the same.
func digestOf(raw json.RawMessage) (string, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return "", fmt.Errorf("digest of a request: %w", err)
	}
	sum := sha256.Sum256(compact.Bytes())
	return hex.EncodeToString(sum[:]), nil
}
