package store

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"rbeehive/store/internal/kv"
	"rbeehive/store/internal/space"
)

// batch is one transaction of the writer with the requests in it.
type batch struct {
	store    *Store
	requests []*request
	next     int // the request to run next
	btx      *bbolt.Tx
	now      time.Time
	work     space.Work // what the closures that succeeded have written
}

// run executes every request once, commits what succeeded, and completes all of them. After
// a closure that called runtime.Goexit it is called again and continues with the next one.
func (b *batch) run() {
	if b.btx == nil && !b.begin() {
		b.complete()
		return
	}
	for b.next < len(b.requests) {
		r := b.requests[b.next]
		b.next++
		// An earlier closure's undo may have failed: then nothing of this transaction is certain.
		if b.store.Err() == nil && r.err == nil {
			b.call(r)
		}
	}
	b.finish()
	b.complete()
}

// begin opens the transaction; false if no request is to be run.
func (b *batch) begin() bool {
	// Looked at once more behind the commit: here nothing has been written, and who asked is not
	// left with something that may have been done.
	b.checkName()
	if err := cmp.Or(b.store.Err(), b.store.checkLength()); err != nil {
		b.failAll(err)
		return false
	}
	err := b.engine(func() (err error) {
		b.btx, err = b.store.db.Begin(true)
		return err
	})
	if err != nil {
		b.failAll(b.store.fail(fmt.Errorf("begin: %w", err)))
		return false
	}
	b.store.length.Store(b.highWater())
	// One time for the whole commit: its records are of one moment.
	b.now = kv.Now()
	if b.admit() {
		return true
	}
	b.rollback()
	return false
}

// admit decides about space before anything is written; false if nothing is admitted.
// Requests that may use the reserve always are: what they need is checked once it is known.
func (b *batch) admit() bool {
	full := !b.store.space.Prepare(b.highWater(), b.freePages())
	admitted := 0
	for _, r := range b.requests {
		if full && !r.reserved {
			r.err = fmt.Errorf("update: %w", ErrDiskFull)
			continue
		}
		admitted++
	}
	return admitted > 0
}

// call runs one closure. If it fails, panics or exits, its writes are undone.
func (b *batch) call(r *request) {
	tx := &Tx{kv: kv.Writing(b.btx, b.store.path, b.now)}
	returned := false
	defer func() {
		tx.kv.End()
		if !returned {
			r.recordAbort(b.store.path, recover())
		}
		// Deferred: after a Goexit in the closure nothing else runs in this goroutine.
		b.keepOrUndo(r, tx.kv)
	}()
	r.err = r.fn(tx)
	returned = true
}

// recordAbort records how a closure ended that did not return.
func (r *request) recordAbort(path string, value any) {
	switch {
	case value == nil:
		r.exited = true // a nil panic value does not exist since Go 1.21
		r.err = errors.New("the function called runtime.Goexit")
	case kv.IsFault(value):
		r.err = &CorruptError{Path: path, Reason: fmt.Sprint(value)}
	default:
		r.panicked, r.value = true, value
		r.err = errors.New("the function panicked")
	}
}

// keepOrUndo keeps a closure's writes or undoes them.
func (b *batch) keepOrUndo(r *request, tx *kv.Tx) {
	if r.err == nil {
		keys, bytes := tx.Written()
		b.work.Keys += keys
		b.work.Bytes += bytes
		return
	}
	err := kv.Protect(b.store.path, func() error { return tx.Undo(b.btx) })
	if err != nil {
		_ = b.store.fail(err) // finish checks it
	}
}

// finish commits if something was written, else rolls back: a closure that only read or was
// undone costs no disk access.
func (b *batch) finish() {
	if err := b.store.Err(); err != nil {
		b.rollback()
		b.failAll(err)
		return
	}
	if b.work.Keys == 0 {
		b.rollback()
		return
	}
	// Known only now: how many pages the closures have touched.
	if !b.store.space.Fits(b.highWater(), b.freePages(), b.work) {
		b.rollback()
		b.failAll(fmt.Errorf("update: %w", ErrDiskFull))
		return
	}
	start := time.Now()
	err := b.engine(func() error { return b.store.commit(b.btx) })
	if err != nil {
		b.failAll(b.store.fail(fmt.Errorf("commit: %w", err)))
		return
	}
	b.store.counters.committed(len(b.requests), time.Since(start))
	// Before anything is acknowledged.
	b.checkName()
}

// checkName fails the store if its file has no name any more.
func (b *batch) checkName() {
	if b.store.Err() != nil {
		return // it was written back already
	}
	if err := b.store.checkName(); err != nil {
		b.failAll(b.store.fail(err))
	}
}

// rollback rolls the transaction back.
func (b *batch) rollback() {
	if err := b.engine(b.btx.Rollback); err != nil {
		_ = b.store.fail(fmt.Errorf("roll back: %w", err)) // its callers have an error already, or have written nothing
	}
}

// engine calls bbolt. If that panics bbolt's locks stay locked: from then on
// nothing may wait for them, Close least of all.
func (b *batch) engine(fn func() error) error {
	returned := false
	err := kv.Protect(b.store.path, func() error {
		err := fn()
		returned = true
		return err
	})
	if !returned {
		b.store.stuck.Store(true)
	}
	return err
}

// failAll gives err to every request that did not fail by itself.
func (b *batch) failAll(err error) {
	for _, r := range b.requests {
		if r.err == nil {
			r.err = err
		}
	}
}

func (b *batch) complete() {
	for _, r := range b.requests {
		close(r.done)
	}
}

// highWater is the size of the file in bytes as bbolt uses it.
func (b *batch) highWater() int64 { return b.btx.Size() }

func (b *batch) freePages() int64 { return int64(b.store.db.Stats().FreePageN) }
