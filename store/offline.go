package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"rbeehive/migrations"
	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
	"rbeehive/store/internal/page"
)

// FileLock is the lock of a state file that is not opened: while it is held no hive starts
// on the file, and nobody else repairs it.
type FileLock struct {
	path string
	file *os.File
}

// LockFile takes the lock of a state file. It blocks for up to a second if another process has it. Errors: *LockedError,
// *NotRegularError, and the system's (fs.ErrNotExist).
func LockFile(path string) (*FileLock, error) {
	file, err := disk.OpenRegular(path, os.O_RDONLY, os.OpenFile)
	if err != nil {
		return nil, err
	}
	if err := disk.LockHere(file, path, true); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &FileLock{path, file}, nil
}

// File is the state file, to be read. It is closed by Release.
func (h *FileLock) File() *os.File { return h.file }

// Release releases the lock. Nil does nothing.
func (h *FileLock) Release() error {
	if h == nil {
		return nil
	}
	return errors.Join(disk.Unlock(h.file), h.file.Close())
}

// replaceWith puts the file fresh in the place of the one that is locked, or, without one,
// where no file is: a hive may have been started since that was checked.
func (h *FileLock) replaceWith(fresh, path, savedAs string) error {
	if h == nil {
		return disk.PutNew(fresh, path)
	}
	return disk.Replace(fresh, path, savedAs)
}

// Offline is a state file that is open to be read while no hive has it. Nothing
// is written to it. It is not safe for concurrent use.
type Offline struct {
	path   string
	file   *os.File // bbolt's
	db     *bbolt.DB
	schema int
	lost   bool     // Meta.MetaPageLost
	meta   recorded // zero with another schema than this build's
}

// OpenOffline opens a state file to be read. It blocks for up to a second if another process has it. Several can have it
// open at once, unless it is exclusive. Errors: *LockedError, *CorruptError (what
// Gather reads can be read all the same), *NotRegularError, ErrUnused,
// migrations.ErrForeign, and the system's.
func OpenOffline(path string, exclusive bool) (*Offline, error) {
	o := &Offline{path: path}
	if err := kv.Protect(path, func() error { return o.open(exclusive) }); err != nil {
		return nil, fmt.Errorf("open the state file: %w", errors.Join(err, o.Close()))
	}
	return o, nil
}

func (o *Offline) open(exclusive bool) (err error) {
	file, err := disk.OpenRegular(o.path, os.O_RDONLY, os.OpenFile)
	if err != nil {
		return err
	}
	o.file = file
	if err := disk.LockHere(file, o.path, exclusive); err != nil {
		return err
	}
	// Before bbolt reads it: some damage ends the process there, and cannot be caught.
	if err := examine(file, o.path); err != nil {
		return err
	}
	o.db, err = bbolt.Open(o.path, 0o600, &bbolt.Options{
		Timeout: time.Nanosecond, ReadOnly: true, FreelistType: bbolt.FreelistMapType,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return file, nil },
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return &LockedError{Path: o.path, PID: disk.LockHolder(o.path)}
	case damaged(err):
		return asCorrupt(o.path, err)
	case err != nil:
		return err
	}
	if exclusive { // bbolt has made it a shared one
		if err := disk.LockHere(file, o.path, true); err != nil {
			return err
		}
	}
	if o.lost, err = metaPageLost(file); err != nil {
		return err
	}
	return o.inspect()
}

func (o *Offline) inspect() error {
	return o.View(func(tx *Tx) (err error) {
		o.schema, err = migrations.Version(tx.kv.Bolt())
		switch {
		case errors.Is(err, migrations.ErrDamaged):
			return &CorruptError{Path: o.path, Bucket: string(kv.Meta), Key: kv.KeySchema, Reason: err.Error()}
		case errors.Is(err, migrations.ErrForeign):
			return fmt.Errorf("%s: %w", o.path, err)
		case err != nil:
			return err
		case o.schema == 0:
			return fmt.Errorf("%s: %w", o.path, ErrUnused)
		case o.schema != migrations.Current():
			return nil
		}
		o.meta, err = tx.readMeta()
		return err
	})
}

// Close releases the lock.
func (o *Offline) Close() error {
	switch {
	case o.db != nil:
		return o.db.Close()
	case o.file != nil:
		// bbolt may have closed it, or have panicked and left it open.
		err := disk.Unlock(o.file) // see openOnce
		if err := o.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			return err
		}
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		return err
	}
	return nil
}

// View is Store.View.
func (o *Offline) View(fn func(*Tx) error) error { return viewOf(o.db, o.path, fn) }

// Schema is the schema of the file.
func (o *Offline) Schema() int { return o.schema }

// Meta describes the file as its last hive left it.
func (o *Offline) Meta() Meta {
	m := o.meta
	return Meta{
		Schema: o.schema, StateID: m.stateID, Incarnation: m.incarnation, MachineID: m.machineID,
		Dev: m.file.Dev, Ino: m.file.Ino, CreatedAt: m.createdAt, MetaPageLost: o.lost,
	}
}

// Check is Store.Check. Of a file with an older schema, which the next start of
// hive migrates, only structure and checksums are examined. Errors besides:
// migrations.ErrNewer.
func (o *Offline) Check(ctx context.Context) error {
	if err := supported(o.schema); err != nil {
		return err
	}
	var findings []error
	err := o.View(func(tx *Tx) error {
		findings = boltFindings(o.file, tx.kv.Bolt(), o.path) // our own examination was at the opening
		c := &checker{ctx: ctx, tx: tx}
		var err error
		// Of an older schema this build knows only the envelopes.
		if o.schema == migrations.Current() {
			err = c.run()
		} else {
			err = c.envelopes()
		}
		findings = append(findings, c.findings...)
		return err
	})
	return errors.Join(append(findings, err)...)
}

// Overview says what is in a state file.
type Overview struct {
	Records   []Count // one for each bucket, in the order of the package comment
	Live      int     // workers that have not ended
	Newest    time.Time
	Bytes     int64 // length of the file
	UsedBytes int64 // what its newest transaction needs of it
}

// Count is how many records a bucket has.
type Count struct {
	Bucket  string `json:"bucket"`
	Records int    `json:"records"`
}

// Overview counts the records and finds the newest. Damaged ones count; they are
// left out of what is said about workers and times.
func (o *Offline) Overview() (v Overview, err error) {
	info, err := o.file.Stat()
	if err != nil {
		return v, err
	}
	v.Bytes = info.Size()
	err = o.View(func(tx *Tx) error {
		v.UsedBytes = tx.kv.Bolt().Size() - page.FreeCount(o.file, v.Bytes)*int64(o.db.Info().PageSize)
		for _, b := range kv.Buckets() {
			n, err := tx.kv.Count(b)
			if err != nil && o.schema == migrations.Current() {
				return err
			}
			v.Records = append(v.Records, Count{string(b), n})
		}
		if o.schema != migrations.Current() {
			return nil
		}
		return v.scanRecords(tx)
	})
	return v, err
}

// scanRecords leaves out what is damaged: Check reports that.
func (v *Overview) scanRecords(tx *Tx) error {
	note := func(t time.Time) {
		if t.After(v.Newest) {
			v.Newest = t
		}
	}
	for w, err := range tx.Workers() {
		if err == nil && !w.State.Ended() {
			v.Live++
		}
		note(w.StartedAt)
	}
	for l, err := range tx.Leases() {
		if err == nil {
			note(l.AcquiredAt)
		}
	}
	// The newest only.
	for ev, err := range kv.All[Event](tx.kv, kv.Events, kv.Range{Reverse: true}) {
		if err == nil {
			note(ev.At)
		}
		break
	}
	return nil
}

// supported refuses a schema that this build does not know.
func supported(schema int) error {
	if last := migrations.Current(); schema > last {
		return &migrations.NewerError{File: schema, Supported: last}
	}
	return nil
}

// Record is one record of a dump.
type Record struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	// Value is the record as JSON; null in an index, of the secret, and if Error is set.
	Value []byte `json:"-"`
	Error string `json:"-"` // why it cannot be read
}

// Dump calls each for every record of a state file, bucket by bucket, and for
// everything that cannot be read, which does not end it. It does not use bbolt.
// Errors: *LockedError, what each returns, and the system's.
func Dump(path string, each func(Record) error) error {
	file, err := disk.OpenRegular(path, os.O_RDONLY, os.OpenFile)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := disk.LockHere(file, path, false); err != nil {
		return err
	}
	var failed error
	damage := func(b kv.Bucket, reason string) {
		failed = errors.Join(failed, each(Record{Bucket: string(b), Error: reason}))
	}
	// By the walker, which goes on after what is damaged.
	w, err := page.NewWalker(file, func(r page.Record) error { return each(dumped(r)) }, damage)
	if err != nil {
		return err
	}
	err = w.Tree()
	if errors.Is(err, page.ErrNoMeta) {
		damage("", err.Error())
		err = nil
	}
	return errors.Join(err, failed)
}

func dumped(r page.Record) Record {
	d := Record{Bucket: string(r.Bucket), Key: kv.KeyName(r.Bucket, r.Key)}
	payload, err := kv.Unseal(r.Bucket, r.Key, r.Value)
	if err != nil {
		d.Error = err.Error()
		return d
	}
	// With the secret anybody could forge stamps.
	secret := r.Bucket == kv.Meta && string(r.Key) == kv.KeySecret
	if r.Bucket != kv.ByJob && r.Bucket != kv.ByWorker && !secret {
		d.Value = slices.Clone(payload)
	}
	return d
}
