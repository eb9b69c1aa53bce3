package hive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/store"
	"rbeehive/store/plain"
)

// LeastLogSize is the smallest Config.Logs.MaxSize: file systems take the head
// of a file away in whole blocks, and no block is larger.
const LeastLogSize = 64 << 10

// logLook is how often the sizes of live workers' logs are looked at.
const logLook = 3 * time.Second

// logs looks after the directory logs/: <worker id>.log, to which the worker
// itself appends, <worker id>.log.1 and so on, to which hive has moved what is
// older (the higher the number, the older), and <worker id>.log.new, which is
// being written.
type logs struct {
	cfg LogsConfig
	dir string
	out *logrus.Logger

	tried sync.Once    // when it is first needed
	unit  atomic.Int64 // in what units the head of a log can be taken away; 0: it cannot

	mu       sync.Mutex
	files    map[string]*logFile // by worker id
	starting map[string]bool     // workers that have a log and no record yet
}

// logFile is a worker's log with what was moved out of it. A place in it is a
// number of bytes that does not change when the log is rotated: base is the
// place at which the file that the worker appends to begins. Lock order: change
// before mu.
type logFile struct {
	path string
	own  bool // it lies in this hive's directory and not in one that was copied

	change  sync.Mutex // held while files are moved or removed
	load    sync.Once
	seen    os.FileInfo // the file as it was when it was first rotated; with change
	refused bool        // its head cannot be taken away, though others' can; with change
	silent  atomic.Bool // its trouble has been reported

	mu   sync.RWMutex // held for writing only while places change, never while bytes are copied
	base int64
	old  []piece // what was moved, newest first
}

// piece is one rotated file: the n-th, with what lies from begin to end.
type piece struct {
	n          int
	begin, end int64
}

func newLogs(cfg LogsConfig, dir string, out *logrus.Logger) *logs {
	return &logs{cfg: cfg, dir: dir, out: out, files: map[string]*logFile{}, starting: map[string]bool{}}
}

// of returns the log of a worker.
func (l *logs) of(rec store.Worker) *logFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.files[rec.WorkerID]
	if f == nil {
		f = &logFile{path: rec.Log}
		if path := filepath.Join(l.dir, rec.WorkerID+".log"); path == rec.Log || sameFile(path, rec.Log) {
			f.path, f.own = path, true
		}
		l.files[rec.WorkerID] = f
	}
	return f
}

// sameFile is for a data directory that was reached by another path before.
func sameFile(a, b string) bool {
	one, errOne := os.Lstat(a)
	other, errOther := os.Lstat(b)
	return errOne == nil && errOther == nil && os.SameFile(one, other)
}

// starts says that the log of a worker is there before its record is; what it
// returns says that the record is there too, or that neither will be.
func (l *logs) starts(workerID string) (started func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starting[workerID] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.starting, workerID)
	}
}

func (f *logFile) name(n int) string  { return f.path + "." + strconv.Itoa(n) }
func (f *logFile) unfinished() string { return f.path + ".new" }

// find looks, once, for what was moved before this hive was started.
func (f *logFile) find(keep int) {
	f.load.Do(func() {
		if f.own {
			f.mend()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		end := int64(0)
		for n := 1; ; n++ {
			fi, err := os.Lstat(f.name(n))
			if err != nil && n > keep {
				return
			}
			if err == nil && fi.Mode().IsRegular() {
				f.old = append(f.old, piece{n, end - fi.Size(), end})
				end -= fi.Size()
			}
		}
	})
}

// mend clears up after a hive that was killed while it rotated: what it was
// writing goes, and so does a rotated file that is the head of the log still.
func (f *logFile) mend() {
	_ = os.Remove(f.unfinished()) // mostly there is none
	first, err := openRegular(f.name(1), os.O_RDONLY)
	if err != nil {
		return
	}
	defer first.Close()
	live, err := openRegular(f.path, os.O_RDONLY)
	if err != nil {
		return
	}
	defer live.Close()
	a, errA := first.Stat()
	b, errB := live.Stat()
	if errA != nil || errB != nil || a.Size() < LeastLogSize || a.Size() > b.Size() {
		return
	}
	one, other := make([]byte, restSize), make([]byte, restSize)
	for {
		n, err := first.Read(one)
		if n == 0 && errors.Is(err, io.EOF) {
			_ = os.Remove(f.name(1))
			return
		}
		if _, err := io.ReadFull(live, other[:n]); n == 0 || err != nil || !bytes.Equal(one[:n], other[:n]) {
			return
		}
	}
}

// length is how much has been written to the log since hive began, with what
// was in it then.
func (f *logFile) length() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if fi, err := os.Lstat(f.path); err == nil {
		return f.base + fi.Size()
	}
	return f.base
}

// openRegular opens a file, and nothing it may have been replaced by: a symbolic
// link would show, or have hive change, any file of its user, and opening a fifo
// would hang. It does not wait for who has a lease on the file, as its owner can
// (fcntl(2), F_SETLEASE).
func openRegular(path string, flag int) (*os.File, error) {
	before, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the file is gone", ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) //nolint:gosec // in hive's own directory, and looked at before and after
	if errors.Is(err, syscall.EAGAIN) {
		return nil, fmt.Errorf("%s: a process of its owner has a lease on it (fcntl(2), F_SETLEASE)", path)
	}
	if err != nil {
		return nil, err
	}
	after, err := file.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s was replaced while it was opened", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// logLine writes one of hive's own lines into a worker's log, as plain text: no
// argument in it can make two lines of it. The log is for people; a line that cannot be
// written is not worth a failure.
func logLine(path, format string, args ...any) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600) //nolint:gosec // in hive's own directory
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = fmt.Fprintf(f, "--- hive: %s\n", plain.Text(fmt.Sprintf(format, args...)))
}

// keepLogs rotates the logs of live workers until the hive closes.
func (h *Hive) keepLogs() {
	ticker := time.NewTicker(logLook)
	defer ticker.Stop()
	for {
		h.rotateLogs(h.ctx)
		select {
		case <-h.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// rotateLogs looks at the log of every live worker. In the first start with a
// copied or restored file those that were taken back may be somebody else's, and
// their logs are left as they are.
func (h *Hive) rotateLogs(ctx context.Context) {
	h.mu.Lock()
	var list []*worker
	for _, w := range h.workers {
		list = append(list, w)
	}
	h.mu.Unlock()
	for _, w := range list {
		h.rotateLog(ctx, w.snap.Load())
	}
}

func (h *Hive) rotateLog(ctx context.Context, rec *store.Worker) {
	if h.store.Meta().Relocated && rec.StartedAt.Before(h.started) {
		return
	}
	fi, err := os.Lstat(rec.Log)
	if err != nil || max(fi.Size(), allocated(fi)) <= h.cfg.Logs.MaxSize || ctx.Err() != nil {
		return // one that is gone needs no rotation
	}
	f := h.logs.of(*rec)
	err = h.logs.rotate(ctx, f)
	if err == nil {
		f.silent.Store(false)
	} else if ctx.Err() == nil && !f.silent.Swap(true) {
		h.cfg.Log.WithError(err).WithField("worker", rec.WorkerID).Warn("a worker's log cannot be rotated and goes on growing")
	}
}
