package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/space"
)

// Store is an open state file. All methods are safe for concurrent use.
type Store struct {
	path     string
	db       *bbolt.DB
	file     *os.File // bbolt's; closed by it
	meta     Meta
	secret   Secret
	claim    *disk.Claim
	space    *space.Space
	writer   *writer
	counters counters
	commit   func(*bbolt.Tx) error // (*bbolt.Tx).Commit, except in tests

	failMu sync.Mutex
	err    error
	failed chan struct{}
	length atomic.Int64 // what the newest transaction needs of the file
	stuck  atomic.Bool  // a transaction could not be rolled back: bbolt's locks are held for ever

	closeOnce sync.Once
	closeErr  error
}

// Update runs fn in a transaction and returns when its outcome is certain: nil
// means that everything fn wrote is on the disk. Calls that come at the same
// time share one commit; each still gets its own outcome.
//
// fn runs exactly once, on the store's goroutine, while all other writers wait:
// it must not block, and must not call Update, Backup, Check or Close. If it
// returns an error its writes are undone and the error is returned as it is. If
// it panics they are undone and Update panics with the same value.
//
// ctx counts only until fn is taken from the queue; then Update waits for the outcome. An
// error of ctx therefore means that fn was not run.
//
// Errors, with nothing of fn written: ctx's, ErrClosed, ErrDiskFull, *CorruptError.
// ErrFailed means that the outcome is unknown: the daemon must stop and let its next start
// find out.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	return s.writer.submit(ctx, fn, false)
}

// UpdateReserved is Update for what must work when the disk is full, because it frees space
// or keeps the file correct: stop, release, cancel and exit records. It may use the space
// that Update leaves, and returns ErrDiskFull only when that is used up too.
func (s *Store) UpdateReserved(ctx context.Context, fn func(*Tx) error) error {
	return s.writer.submit(ctx, fn, true)
}

// View runs fn on a consistent state: all of the last finished transaction and nothing of a
// running one. It does not wait for writers. fn must not wait for the network or a slow
// reader: pages freed meanwhile cannot be used again, so the file grows. Errors: fn's, as
// it is; ErrClosed; *CorruptError. After the store has failed View still works, and may
// show the transaction whose outcome is unknown; but not if the file was cut off.
func (s *Store) View(fn func(*Tx) error) error {
	if err := s.checkLength(); err != nil {
		return err
	}
	return viewOf(s.db, s.path, fn)
}

// Failed is closed when a commit has failed. From then on every Update returns ErrFailed;
// Err says why. Only a restart of the process recovers from it.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err is nil until the store has failed; then it wraps ErrFailed and the cause.
func (s *Store) Err() error {
	s.failMu.Lock()
	defer s.failMu.Unlock()
	return s.err
}

// fail stops the store for good and returns the error for those affected. Only
// the first cause is kept.
func (s *Store) fail(cause error) error {
	s.failMu.Lock()
	defer s.failMu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", ErrFailed, cause)
		// Only once: later failures follow from the first.
		close(s.failed)
	}
	return s.err
}

// Meta describes the file as it was opened. It does not change while it is open.
func (s *Store) Meta() Meta { return s.meta }

// Secret returns the secret of the state. The caller must not change it.
func (s *Store) Secret() Secret { return s.secret }

// Close refuses new work, commits what is queued, waits for the running View calls, and
// releases the lock and the claim on the state id. Calling it again does nothing and
// returns the same. Its error is about closing only.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		// The writer first: it commits what is queued.
		s.writer.close()
		s.closeErr = s.closeFile()
		if err := s.claim.Release(); err != nil {
			s.closeErr = errors.Join(s.closeErr, fmt.Errorf("release the claim: %w", err))
		}
	})
	return s.closeErr
}

// closeFile closes bbolt, or only the file if bbolt would wait for ever; that releases the
// lock and leaves the mapping until the process ends.
func (s *Store) closeFile() error {
	closeDB := s.db.Close
	if s.stuck.Load() {
		closeDB = func() error { return errors.Join(disk.Unlock(s.file), s.file.Close()) }
	}
	if err := closeDB(); err != nil {
		return fmt.Errorf("close the state file: %w", err)
	}
	return nil
}
