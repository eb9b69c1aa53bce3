package models

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"rbeehive/hive/trust"
	"rbeehive/store/nospace"
)

// DefaultEndpoint is the hub unless another is configured.
const DefaultEndpoint = "https://huggingface.co"

const (
	partialDir = ".partial"
	deletedDir = ".deleted"

	// PartialAge is how long the rest of a download that nobody goes on with is kept.
	PartialAge = 7 * 24 * time.Hour

	maxDownloads = 2 // more only share the same line
)

// Options is what a Library is made from. Zero values take the defaults.
type Options struct {
	Dir       string // absolute; made when it is first written to
	Endpoint  string // default: DefaultEndpoint
	Token     string // sent to the endpoint only; empty: none
	UserAgent string
	// Reserve is how much of the disk stays free, for the state file; default 64 MiB.
	Reserve int64
	// Free is how much can be written to a directory; default: ask the system.
	Free func(dir string) (int64, error)
	// RetryMin and RetryMax bound the wait between tries; default 500 ms and 30 s.
	RetryMin, RetryMax time.Duration
	// Stall is how long next to nothing (less than 64 KiB) may come; default one minute.
	Stall time.Duration
	// Tries is how often in a row nothing may be gained; default 6.
	Tries int
}

// Library is the models of a hive. Its methods are safe for concurrent use.
type Library struct {
	opts     Options
	endpoint *url.URL
	client   *http.Client
	slots    *semaphore.Weighted

	mu        sync.Mutex
	transfers map[string]*transfer // by id
	held      map[string]int       // see Hold
	deleting  map[string]bool

	trash sync.Mutex // of deletedDir; after mu
}

// New makes a library. It touches nothing on disk. The error is about the endpoint.
func New(opts Options) (*Library, error) {
	opts.Endpoint = cmp.Or(opts.Endpoint, DefaultEndpoint)
	opts.Reserve = cmp.Or(opts.Reserve, 64<<20)
	opts.RetryMin = cmp.Or(opts.RetryMin, 500*time.Millisecond)
	opts.RetryMax = max(opts.RetryMin, cmp.Or(opts.RetryMax, 30*time.Second))
	opts.Stall = cmp.Or(opts.Stall, time.Minute)
	opts.Tries = cmp.Or(opts.Tries, 6)
	if opts.Free == nil {
		opts.Free = func(dir string) (int64, error) {
			left, err := nospace.In(dir)
			return left.Bytes, err
		}
	}
	endpoint, err := ParseEndpoint(opts.Endpoint)
	if err != nil {
		return nil, err
	}
	return &Library{
		opts: opts, endpoint: endpoint, client: newClient(endpoint, opts), slots: semaphore.NewWeighted(maxDownloads),
		transfers: map[string]*transfer{}, held: map[string]int{}, deleting: map[string]bool{},
	}, nil
}

// Dir is where the models are.
func (l *Library) Dir() string { return l.opts.Dir }

// Close closes idle connections. Downloads must have returned.
func (l *Library) Close() { l.client.CloseIdleConnections() }

// root opens the directory. It is opened for each use: a disk that is mounted later is
// found then. It must be trusted (package trust): what is in it is given to workers as the
// model of that name. The caller closes it.
func (l *Library) root(create bool) (*os.Root, error) {
	// Only to write: looking must not make a directory where a disk is to be mounted.
	if create {
		if err := trust.MkdirAll(l.opts.Dir, 0o755); err != nil { // workers of other users read it
			return nil, fmt.Errorf("the directory of models: %w", err)
		}
	}
	if err := trust.Dir(l.opts.Dir); err != nil {
		return nil, fmt.Errorf("the directory of models: %w", err)
	}
	root, err := os.OpenRoot(l.opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("the directory of models: %w", err)
	}
	return root, nil
}

// List returns the models of the catalog by id. It reads their metadata and looks
// at their files.
func (l *Library) List() ([]Model, error) {
	list := []Model{}
	root, err := l.root(false)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // only read from
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("the directory of models: %w", err)
	}
	for _, e := range entries {
		text, ok := unescape(e.Name())
		if !ok || !e.IsDir() {
			continue // not ours
		}
		id, err := ParseID(text)
		if err != nil {
			continue
		}
		m, err := l.load(root, id)
		switch {
		case errors.Is(err, ErrNotFound):
			continue // removed in this moment
		case err != nil:
			// Listed all the same: it takes space, and can be deleted.
			m = Model{ID: text, Name: id.name(), Repo: id.Repo, File: id.File, Status: StatusDamaged, Path: filepath.Join(l.opts.Dir, e.Name())}
		}
		list = append(list, m)
	}
	return list, nil
}

// Get returns a model of the catalog. Errors: ErrInvalidID, ErrNotFound, and those
// of the file system.
func (l *Library) Get(id string) (Model, error) {
	parsed, err := ParseID(id)
	if err != nil {
		return Model{}, err
	}
	root, err := l.root(false)
	if errors.Is(err, fs.ErrNotExist) {
		return Model{}, notHere(id)
	}
	if err != nil {
		return Model{}, err
	}
	defer func() { _ = root.Close() }() // only read from
	return l.load(root, parsed)
}

func notHere(id string) error {
	return fmt.Errorf("%w: no model %q; model_list shows the models", ErrNotFound, clip(id))
}

// Hold keeps a model from being deleted until release is called, and returns it.
// ok is false for what is no whole model of the catalog. Any text will do: what Find
// takes, a path, a name.
func (l *Library) Hold(name string) (m Model, release func(), ok bool) {
	id, err := l.Find(name)
	if err != nil {
		return Model{}, nil, false
	}
	l.mu.Lock()
	if l.deleting[id] {
		l.mu.Unlock()
		return Model{}, nil, false
	}
	// Before it is looked up: a deletion in between would find it unused.
	l.held[id]++
	l.mu.Unlock()
	release = sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[id]--; l.held[id] == 0 {
			delete(l.held, id)
		}
	})
	m, err = l.Get(id)
	if err != nil || m.Status != StatusAvailable {
		release()
		return Model{}, nil, false
	}
	return m, release, true
}

// Delete removes a model from the catalog, and what is left of a download of it. It
// asks users, while nobody can come to hold the model, who else uses it: if anybody
// does, or the model is held or being downloaded, the error is ErrInUse. Other
// errors: ErrInvalidID, ErrNotFound, and those of the file system.
func (l *Library) Delete(id string, users func(Model) []string) error {
	parsed, err := ParseID(id)
	if err != nil {
		return err
	}
	if err := l.claim(id, users); err != nil {
		return err
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.deleting, id)
	}()
	root, err := l.root(false)
	if errors.Is(err, fs.ErrNotExist) {
		return notHere(id)
	}
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // what had to be synced was
	name := escape(parsed.String())
	found := false
	// The rest of a download, too, even without a model.
	for _, dir := range []string{name, filepath.Join(partialDir, name)} {
		if dir == name {
			if _, err := l.load(root, parsed); errors.Is(err, ErrNotFound) {
				continue
			}
		}
		switch err := l.discard(root, dir); {
		case err == nil:
			found = true
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("delete model %s: %w", id, err)
		}
	}
	if !found {
		return notHere(id)
	}
	return nil
}

// claim marks a model as being deleted, unless it is in use.
func (l *Library) claim(id string, users func(Model) []string) error {
	m, err := l.Get(id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		m = Model{ID: id, Path: filepath.Join(l.opts.Dir, escape(id))} // damaged
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.deleting[id]:
		return fmt.Errorf("%w: %s is being deleted already", ErrInUse, id)
	case l.transfers[id] != nil:
		return fmt.Errorf("%w: %s is being downloaded; cancel its job first", ErrInUse, id)
	case l.held[id] > 0:
		return fmt.Errorf("%w: a worker of %s is being started", ErrInUse, id)
	}
	// Under the lock, so that no start can come in between.
	if names := users(m); len(names) > 0 {
		return fmt.Errorf("%w: %s is used by %s; stop it first", ErrInUse, id, join(names))
	}
	l.deleting[id] = true
	return nil
}

// discard takes a directory out of sight at once, and then removes it.
func (l *Library) discard(root *os.Root, dir string) error {
	l.trash.Lock()
	defer l.trash.Unlock()
	if _, err := root.Lstat(dir); err != nil {
		return err
	}
	// Renamed first: if hive is killed during the removal, half a model must not be left.
	gone := filepath.Join(deletedDir, rand.Text())
	switch err := root.MkdirAll(deletedDir, 0o755); {
	case nospace.Is(err):
		gone = deletedDir // a rename needs no inode, and to delete is what helps
	case err != nil:
		return err
	}
	if err := root.Rename(dir, gone); err != nil {
		return err
	}
	if err := syncDir(root, filepath.Dir(dir)); err != nil {
		return err
	}
	// Only after the rename is durable: a power cut leaves the model whole, or none.
	if err := root.RemoveAll(gone); err != nil {
		return err
	}
	_ = root.Remove(deletedDir) // if it is empty
	return nil
}

// Cleanup removes what was left behind by deletions that were cut short, and the rests
// of downloads that nobody has gone on with for PartialAge. ctx ends it early.
func (l *Library) Cleanup(ctx context.Context) error {
	root, err := l.root(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // only names were changed
	// Not while discard uses it.
	l.trash.Lock()
	err = root.RemoveAll(deletedDir)
	l.trash.Unlock()
	if err != nil {
		return err
	}
	entries, err := fs.ReadDir(root.FS(), partialDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil
		}
		if err := l.cleanupPartial(root, e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// cleanupPartial removes the rest of a download if it is too old. The lock is kept: a
// download of it must not begin meanwhile.
func (l *Library) cleanupPartial(root *os.Root, name string) error {
	id, _ := unescape(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	dir := filepath.Join(partialDir, name)
	if l.transfers[id] != nil || time.Since(newest(root, dir)) < PartialAge {
		return nil
	}
	return root.RemoveAll(dir)
}

// newest is when something in dir was last changed.
func newest(root *os.Root, dir string) (at time.Time) {
	_ = fs.WalkDir(root.FS(), dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be looked at is not new
		}
		if info, err := d.Info(); err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
		return nil
	})
	return at
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// onDisk makes ErrDiskFull of an error that says so.
func (l *Library) onDisk(err error) error {
	if nospace.Is(err) && !errors.Is(err, ErrDiskFull) {
		return fmt.Errorf("%w: %s: %w", ErrDiskFull, nospace.Why(l.opts.Dir, err), err)
	}
	return err
}
