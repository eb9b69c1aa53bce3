package journal

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/lock"
	"rbeehive/store"
)

// Journal is the state file with its listeners.
type Journal struct {
	store *store.Store
	ctx   context.Context
	log   *logrus.Logger
	dir   string
	feed  feed

	broken   chan struct{} // closed when the hive must end
	breaking sync.Once
	fault    error // why; set before broken is closed
}

// New returns the journal of an open state file in dir. ctx ends when the hive closes.
func New(ctx context.Context, st *store.Store, dir string, log *logrus.Logger) *Journal {
	return &Journal{
		store: st, ctx: ctx, log: log, dir: dir,
		feed: feed{topics: map[string]*topic{}}, broken: make(chan struct{}),
	}
}

// View reads the state file in one transaction.
func (j *Journal) View(fn func(*store.Tx) error) error { return j.store.View(fn) }

// Writer is a commit that is another's, such as the release of a port, and takes part of
// the transaction.
type Writer func(closure func(*store.Tx) error) error

// With commits fn by commit, and calls what is to follow the commit.
func (j *Journal) With(commit Writer, fn func(*Batch) error) error {
	// Functions of others run in the same transaction, and could need a lock that the caller holds.
	lock.MayCommit()
	b := &Batch{}
	err := commit(func(tx *store.Tx) error {
		*b = Batch{Tx: tx}
		return fn(b)
	})
	if err != nil {
		return err
	}
	// Only now: who is woken, or reads memory, must find it durable.
	for _, f := range b.after {
		f()
	}
	j.feed.wake(b.topics...)
	return nil
}

// Commit commits something new. ctx counts only while it is queued. Errors:
// store.ErrDiskFull, store.ErrFailed, store.ErrClosed, ctx's, fn's.
func (j *Journal) Commit(ctx context.Context, fn func(*Batch) error) error {
	return j.With(func(closure func(*store.Tx) error) error { return j.store.Update(ctx, closure) }, fn)
}

// CommitReserved is Commit for what makes room or ends something: stops are what helps
// when the disk is full.
func (j *Journal) CommitReserved(ctx context.Context, fn func(*Batch) error) error {
	return j.With(func(closure func(*store.Tx) error) error { return j.store.UpdateReserved(ctx, closure) }, fn)
}

// CommitRequired commits the end or a change of what exists already. It may use the
// reserve of a full disk, and is not given up when a caller goes away. Its errors are
// those of CommitUntilDone.
func (j *Journal) CommitRequired(fn func(*Batch) error) error {
	return j.CommitUntilDone(func(closure func(*store.Tx) error) error {
		return j.store.UpdateReserved(context.Background(), closure)
	}, fn)
}

// CommitUntilDone carries out a commit that must come about: what it records has
// happened already, and somebody waits for it. A disk without even the reserve is waited
// for. Any other error means that the file does not hold what it must; then the hive is
// broken, and the next recovery finds out what is true. It returns an error only then, or
// when the hive closes.
func (j *Journal) CommitUntilDone(commit Writer, fn func(*Batch) error) error {
	for {
		if err := j.Err(); err != nil {
			return err
		}
		err := j.With(commit, fn)
		switch {
		case err == nil:
			return nil
		// The only error that has certainly written nothing and can pass by itself.
		case errors.Is(err, store.ErrDiskFull):
			j.log.WithError(err).WithField("data_dir", j.dir).Error("the disk is full: waiting for space to record what has happened")
		case errors.Is(err, store.ErrClosed):
			return err
		default:
			j.giveUp(err)
			return err
		}
		select {
		case <-time.After(diskRetryInterval):
		case <-j.broken:
			return j.fault
		case <-j.ctx.Done():
			return errdefs.ErrClosing
		}
	}
}

// diskRetryInterval is how long a commit waits for space before it is tried again.
const diskRetryInterval = 200 * time.Millisecond

// CommitBestEffort commits what nobody waits for, such as the removal of what is old.
// Nothing has happened if it fails, so an error is no reason to end: the next round tries
// again.
func (j *Journal) CommitBestEffort(fn func(*Batch) error) error { return j.CommitReserved(j.ctx, fn) }

// Broken is closed when the hive must end, because what has happened could not be
// recorded; Err says why then.
func (j *Journal) Broken() <-chan struct{} { return j.broken }

// Err returns why the hive must end; nil while it need not.
func (j *Journal) Err() error {
	select {
	case <-j.broken:
		return j.fault
	default:
		return nil
	}
}

// Over reports whether nothing more is to be recorded: the hive closes or must end.
func (j *Journal) Over() bool { return j.ctx.Err() != nil || j.Err() != nil }

// giveUp lets those return who wait for what will not happen.
func (j *Journal) giveUp(err error) {
	j.breaking.Do(func() {
		j.fault = err
		close(j.broken)
	})
}

// LogUnlessClosing reports an error of the state file, except those that only say that
// the hive is closing or has failed already.
func (j *Journal) LogUnlessClosing(err error, doing, id string) {
	// A failed store is reported once, by Run.
	if err == nil || j.ctx.Err() != nil || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrFailed) {
		return
	}
	j.log.WithError(err).WithField("id", id).Error("could not " + doing)
}

// Watch returns a channel that is closed at the next commit with an event of a job. Each
// Watch is followed by one call of leave.
func (j *Journal) Watch(jobID string) (woken <-chan struct{}, leave func()) {
	wake := j.feed.join(jobID)
	return wake, func() { j.feed.leave(jobID, wake) }
}
