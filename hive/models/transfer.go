package models

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Progress is how far a download is.
type Progress struct {
	File  string        // the one that is coming
	Bytes int64         // there are, of all files
	Total int64         // there will be; 0: not known yet
	Rate  float64       // bytes per second, lately
	ETA   time.Duration // negative: not known
	Note  string        // what it waits for; empty: it gets on
}

// transfer is one download under way, which any number of callers wait for.
type transfer struct {
	id     ID
	cancel context.CancelCauseFunc
	done   chan struct{}
	model  Model // with err, once done is closed
	err    error

	waiting int // callers; guarded by Library.mu

	mu    sync.Mutex
	p     Progress
	rated time.Time // when p.Rate was last made, from base bytes
	base  int64
	lacks int64 // bytes that are not on the disk yet: some of what is there may not be in p.Bytes
}

var errAbandoned = errors.New("the download was abandoned")

// Download gets a model from the hub, or does nothing if the catalog has it whole.
// It blocks until the model is in the catalog. A second call for the same id joins
// the first; the download is given up when ctx of all of them have ended, and has
// stopped when the last one returns. What came stays for the next one, except when
// the disk was full or the content was wrong.
//
// notify, which may be nil, is called by the caller's goroutine with what is new, at
// most twice a second, and less often the longer it takes.
//
// Errors: ErrInvalidID, ErrNotFound, ErrInUse (it is being deleted), ErrAmbiguous,
// ErrUnauthorized, ErrUnavailable, ErrCorrupt, ErrFormat, ErrDiskFull, ctx's cause, and those of
// the file system.
func (l *Library) Download(ctx context.Context, id string, notify func(Progress)) (Model, error) {
	parsed, err := ParseID(id)
	if err != nil {
		return Model{}, err
	}
	// Its last caller may have given up the transfer just before this one joined.
	for {
		t, err := l.join(parsed)
		if err != nil {
			return Model{}, err
		}
		if m, err := l.follow(ctx, t, notify); !errors.Is(err, errAbandoned) {
			return m, err
		}
		if ctx.Err() != nil {
			return Model{}, context.Cause(ctx)
		}
	}
}

// join finds the transfer of a model, or begins one.
func (l *Library) join(id ID) (*transfer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deleting[id.String()] {
		return nil, fmt.Errorf("%w: %s is being deleted; try again", ErrInUse, id)
	}
	if t := l.transfers[id.String()]; t != nil {
		t.waiting++
		return t, nil
	}
	// Not a caller's context: others may join.
	ctx, cancel := context.WithCancelCause(context.Background())
	t := &transfer{id: id, cancel: cancel, done: make(chan struct{}), waiting: 1, p: Progress{ETA: -1}}
	l.transfers[id.String()] = t
	go func() { // ends before the last caller of Download returns
		defer cancel(nil)
		t.model, t.err = l.transfer(ctx, t)
		l.mu.Lock()
		// Before done: who asks again after a failure must begin another.
		delete(l.transfers, id.String())
		l.mu.Unlock()
		close(t.done)
	}()
	return t, nil
}

// follow waits for the end of a transfer. The last one to go away ends it.
func (l *Library) follow(ctx context.Context, t *transfer, notify func(Progress)) (Model, error) {
	begun := time.Now()
	var last Progress
	for {
		// Rarer the longer it takes: each report is a commit.
		pause := time.NewTimer(min(max(time.Since(begun)/20, 500*time.Millisecond), 5*time.Second))
		select {
		case <-t.done:
			pause.Stop()
			return t.model, t.err
		case <-ctx.Done():
			pause.Stop()
			// The last caller waits until it has stopped: nothing may be written after the job's end.
			if l.leave(t) {
				<-t.done
			}
			select {
			case <-t.done:
				if t.err == nil {
					return t.model, nil // it was done when it was given up
				}
			default:
			}
			return Model{}, context.Cause(ctx)
		case <-pause.C:
		}
		if p := t.progress(); notify != nil && (p.Total > 0 || p.Note != "") && (p.Bytes != last.Bytes || p.Note != last.Note) {
			notify(p)
			last = p
		}
	}
}

// leave reports whether nobody else waits for the transfer, which is ended then.
func (l *Library) leave(t *transfer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.waiting--; t.waiting > 0 {
		return false
	}
	t.cancel(errAbandoned)
	return true
}

func (t *transfer) progress() Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if dt := now.Sub(t.rated); !t.rated.IsZero() && dt >= 250*time.Millisecond {
		rate := max(0, float64(t.p.Bytes-t.base)/dt.Seconds())
		if t.p.Rate > 0 {
			// Smoothed, or the time left would jump about.
			rate = 0.7*t.p.Rate + 0.3*rate
		}
		t.p.Rate, t.rated, t.base = rate, now, t.p.Bytes
	}
	p := t.p
	if p.Rate > 1 {
		p.ETA = time.Duration(float64(p.Total-p.Bytes) / p.Rate * float64(time.Second)).Round(time.Second)
	}
	return p
}

func (t *transfer) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.Note = text
}

func (t *transfer) add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.Bytes += n
}

func (t *transfer) begin(total, lacks int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.Total, t.lacks = total, lacks
}

// wrote counts bytes that have come to the disk; negative: were thrown away.
func (t *transfer) wrote(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lacks -= n
}

// fetches begins to measure the rate: what was there before did not come.
func (t *transfer) fetches(file string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p.File, t.rated, t.base = file, time.Now(), t.p.Bytes
}

func (t *transfer) left() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lacks
}

// transfer carries out a download.
func (l *Library) transfer(ctx context.Context, t *transfer) (Model, error) {
	id, err := l.Find(t.id.String())
	if err != nil {
		return Model{}, err
	}
	m, err := l.Get(id)
	if err == nil && m.Status == StatusAvailable {
		return m, nil
	}
	if !l.slots.TryAcquire(1) {
		t.note("waits for other downloads")
		if err := l.slots.Acquire(ctx, 1); err != nil {
			return Model{}, context.Cause(ctx)
		}
		t.note("")
	}
	defer l.slots.Release(1)
	commit, files, err := l.list(ctx, t.id.Repo, t.note)
	if err != nil {
		return Model{}, err
	}
	sel, err := choose(t.id, commit, files)
	if err != nil {
		return Model{}, err
	}
	if err := l.fetchAll(ctx, t, sel); err != nil {
		return Model{}, err
	}
	return l.Get(t.id.String())
}

// fetchAll gets the files of a selection and makes a model of them.
func (l *Library) fetchAll(ctx context.Context, t *transfer, sel selection) (err error) {
	defer func() { err = l.onDisk(err) }()
	root, err := l.root(true)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // what had to be synced was
	dir := filepath.Join(partialDir, escape(t.id.String()))
	defer func() { _, _ = root.Remove(dir), root.Remove(partialDir) }() // if they are empty
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	part, err := root.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = part.Close() }() // what had to be synced was
	release, err := exclusive(root, part, dir)
	if err != nil {
		return fmt.Errorf("%w: %s", err, t.id)
	}
	defer release()
	// hive may have been killed while it assembled the model.
	if err := takeApart(part, sel); err != nil {
		return err
	}
	// Before the space is checked, of which this frees some.
	if err := dropOthers(part, sel); err != nil {
		return err
	}
	lacks := sel.size() - present(part.FS(), sel)
	t.begin(sel.size(), lacks)
	if err = l.checkSpace(t, lacks); err != nil {
		return err // what is there may go on once there is space
	}
	for i := range sel.files {
		if err = l.fetch(ctx, t, part, sel.commit, &sel.files[i]); err != nil {
			break
		}
	}
	if err == nil {
		err = l.assemble(root, part, dir, t.id, sel)
	}
	if err = l.onDisk(err); errors.Is(err, ErrDiskFull) || err == nil {
		// After a success nothing of use is left. Half a model does not keep a disk full.
		err = errors.Join(err, root.RemoveAll(dir))
	}
	return err
}

// exclusive keeps the hives that share a directory from writing to the same files: one
// that begins a file anew would make holes in what the other has verified. It does
// not wait: ErrInUse.
func exclusive(root, part *os.Root, dir string) (release func(), err error) {
	f, err := part.Open(".")
	if err != nil {
		return nil, err
	}
	locked, err := lockDir(f)
	if err == nil && locked {
		var ours, there fs.FileInfo
		if ours, err = f.Stat(); err == nil {
			there, err = root.Lstat(dir)
		}
		// Else the other hive has removed the directory before the lock was taken.
		if err == nil && os.SameFile(ours, there) {
			return func() { _ = f.Close() }, nil // nothing was written to it
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // whoever had it is done
		}
		locked = false
	}
	_ = f.Close() // as above
	if err == nil && !locked {
		err = fmt.Errorf("%w: another hive with the same models.dir is downloading it", ErrInUse)
	}
	return nil, err
}

// present is how many bytes of a selection are there already.
func present(part fs.FS, sel selection) (n int64) {
	for _, f := range sel.files {
		if info, err := fs.Stat(part, f.partName()); err == nil {
			// What is longer is thrown away when it is read.
			n += min(info.Size(), f.Size)
		}
	}
	return n
}

// checkSpace reports ErrDiskFull if need bytes do not fit beside what other
// downloads still need.
func (l *Library) checkSpace(t *transfer, need int64) error {
	free, err := l.opts.Free(l.opts.Dir)
	if err != nil {
		return fmt.Errorf("read the free space of %s: %w", l.opts.Dir, err)
	}
	l.mu.Lock()
	for _, other := range l.transfers {
		if other != t {
			free -= other.left()
		}
	}
	l.mu.Unlock()
	if free -= l.opts.Reserve; need > free {
		return fmt.Errorf("%w: %s needs %s more and %s is available in %s (%s are reserved for hive); free some space there, or delete a model",
			ErrDiskFull, t.id, Bytes(need), Bytes(max(free, 0)), l.opts.Dir, Bytes(l.opts.Reserve))
	}
	return nil
}

// Bytes is a size for a person.
func Bytes(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n), -1
	for value >= unit && prefix < 4 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %cB", value, "kMGTP"[prefix])
}
