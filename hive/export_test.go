package hive

import (
	"context"
	"io"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/store"
)

// DecodeOperation is for fuzzing: decoding without a hive.
var DecodeOperation = decodeOperation

// Unsent is how many heartbeats are kept for a listener.
const Unsent = unsent

// RotateLogs looks at the logs of live workers now.
func (h *Hive) RotateLogs(ctx context.Context) { h.rotateLogs(ctx) }

// CopyLogs makes the file system one that cannot take blocks out of the head of a file.
func (h *Hive) CopyLogs() { h.logs.copy() }

// BeginNothing keeps recovery from beginning what it leaves for later.
func (h *Hive) BeginNothing() { h.close() }

// Prune removes what is old now.
func (h *Hive) Prune(ctx context.Context) { h.prune(ctx) }

// Logs is a directory of logs without a hive.
type Logs struct{ l *logs }

// NewLogs takes dir as it is.
func NewLogs(cfg LogsConfig, dir string, out *logrus.Logger) *Logs {
	return &Logs{newLogs(cfg, dir, out)}
}

// Copy is CopyLogs.
func (l *Logs) Copy() { l.l.copy() }

func (l *logs) copy() {
	l.headUnit() // after this it is not asked for again
	l.unit.Store(0)
}

// Collapses reports whether the file system can take blocks out of the head of a file.
func (l *Logs) Collapses() bool { return l.l.headUnit() > 0 }

func (l *Logs) record(id string) store.Worker {
	return store.Worker{WorkerID: id, Log: filepath.Join(l.l.dir, id+".log")}
}

// Rotate looks at the log of a worker.
func (l *Logs) Rotate(ctx context.Context, id string) error {
	return l.l.rotate(ctx, l.l.of(l.record(id)))
}

// Open opens the log of a worker where its last lines begin.
func (l *Logs) Open(ctx context.Context, id string, lines int) (*LogReader, error) {
	r, err := l.l.open(l.record(id))
	if err == nil {
		err = r.seekLines(ctx, lines)
	}
	return r, err
}

// Read reads on; io.EOF is the end for now.
func (r *LogReader) Read(p []byte) (int, error) {
	for {
		n, at, err := r.readAt(p, r.pos)
		here := at == r.pos
		r.pos = at + int64(n)
		switch {
		case n > 0 || err != nil || len(p) == 0:
			return n, err
		case here:
			return 0, io.EOF
		}
	}
}

// LastLines are those for the error of a failed job.
func (l *Logs) LastLines(ctx context.Context, id string, n int) []string {
	return l.l.lastLines(ctx, l.record(id), n)
}

// ParseLogName takes the name of a file in logs/ apart.
var ParseLogName = parseLogName

// AwaitLooks waits for the first looks at all workers.
func (h *Hive) AwaitLooks() { h.awaitLooks() }

// HoldWorkers takes the lock of every worker, as their supervisors do to begin and
// to rest.
func (h *Hive) HoldWorkers() (letGo func()) {
	list := h.stoppable()
	for _, w := range list {
		w.mu.Lock()
	}
	return func() {
		for _, w := range list {
			w.mu.Unlock()
		}
	}
}

// StoredEvents are the events of a job so far.
func (h *Hive) StoredEvents(id string) (evs []store.Event, err error) {
	err = h.store.View(func(tx *store.Tx) error {
		evs, err = tx.JobEvents(id, 0, 0)
		return err
	})
	return evs, err
}

// HoldLock takes the lock of the hive's tables.
func (h *Hive) HoldLock() (release func()) {
	h.mu.Lock()
	return h.mu.Unlock
}

// HoldWriter keeps the writer of the state file busy.
func (h *Hive) HoldWriter() (release func()) {
	held, over, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = h.store.Update(context.Background(), func(*store.Tx) error { close(held); <-over; return nil }) // nothing is written
	}()
	<-held
	return func() { close(over); <-done }
}

// EventBounds says which events there are.
func (h *Hive) EventBounds() (b store.EventBounds, err error) {
	err = h.store.View(func(tx *store.Tx) (err error) { b, err = tx.EventBounds(); return err })
	return b, err
}

// BackUpIfDue makes an automatic backup if one is due.
func (h *Hive) BackUpIfDue(now time.Time) error { return h.backUpIfDue(now) }

// Examined reports whether the full check after the start is over.
func (h *Hive) Examined() bool { return h.examined.Load() != nil }
