package db

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rbeehive/migrations"
	"rbeehive/store"
)

// State is where the state file of a data directory is.
func State(dir string) string { return filepath.Join(dir, "hive.db") }

// Checked is the result of a check.
type Checked struct {
	Path      string          `json:"path"`
	Schema    int             `json:"schema"`
	StateID   string          `json:"state_id"` // empty: it cannot be read
	Records   []store.Count   `json:"records"`
	Live      int             `json:"live"` // workers that have not ended
	Newest    *time.Time      `json:"newest"`
	Bytes     int64           `json:"bytes"`
	UsedBytes int64           `json:"used_bytes"`
	Findings  []store.Finding `json:"findings"`
	// MetaPageLost is no finding: hive starts with such a file, and a power cut leaves one.
	MetaPageLost bool `json:"meta_page_lost"`
}

// Check checks the whole state file in dir: its structure, the checksum and form of every
// record, and that records agree with each other. Nothing is written.
func Check(ctx context.Context, dir string) (Checked, error) {
	if err := checkDir(dir); err != nil {
		return Checked{}, err
	}
	c, err := check(ctx, State(dir))
	return c, refusal(err, dir, "`hivectl doctor` shows what the running hive found when it checked the file")
}

func check(ctx context.Context, path string) (c Checked, err error) {
	c = Checked{Path: path, Findings: []store.Finding{}}
	o, err := store.OpenOffline(path, false)
	var corrupt *store.CorruptError
	// It cannot be opened, and what is wrong with it is what was asked: its pages are read instead.
	if errors.As(err, &corrupt) {
		c.Findings = append(c.Findings, store.Finding{Bucket: corrupt.Bucket, Key: corrupt.Key, Reason: corrupt.Reason})
		return c, c.countReadable()
	}
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	found, rest := store.Findings(o.Check(ctx))
	if rest != nil {
		return c, rest
	}
	c.Findings = append(c.Findings, found...)
	v, err := o.Overview()
	if err != nil {
		return c, err
	}
	c.Schema, c.StateID, c.MetaPageLost = o.Schema(), o.Meta().StateID, o.Meta().MetaPageLost
	c.Records, c.Live, c.Bytes, c.UsedBytes = v.Records, v.Live, v.Bytes, v.UsedBytes
	if !v.Newest.IsZero() {
		c.Newest = &v.Newest
	}
	return c, nil
}

// countReadable counts the records of a damaged file that can be read, and lists the damage.
func (c *Checked) countReadable() (err error) {
	h, err := store.LockFile(c.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Release()) }()
	g, err := store.Gather(h.File(), false)
	if err != nil {
		return err
	}
	c.Bytes, c.Schema = g.Bytes, migrations.Current()
	for _, f := range g.Damage {
		if !slices.Contains(c.Findings, f) { // the opening has found it
			c.Findings = append(c.Findings, f)
		}
	}
	if len(g.StateIDs) > 0 {
		c.StateID = g.StateIDs[0].Record
	}
	for _, w := range g.Workers {
		if w.Source == store.FromTree && !w.Record.State.Ended() {
			c.Live++
		}
	}
	c.Records = []store.Count{
		{Bucket: "leases", Records: current(g.Leases)},
		{Bucket: "ended", Records: current(g.Tombstones)},
		{Bucket: "workers", Records: current(g.Workers)},
		{Bucket: "names", Records: current(g.Names)},
		{Bucket: "jobs", Records: current(g.Jobs)},
		{Bucket: "events", Records: current(g.Events)},
		{Bucket: "keys", Records: current(g.Keys)},
	}
	return nil
}

func current[T any](versions []store.Version[T]) (n int) {
	for _, v := range versions {
		// The others are older versions from free pages, and no part of the state.
		if v.Source == store.FromTree {
			n++
		}
	}
	return n
}

// line is one line of a dump.
type line struct {
	Bucket string           `json:"bucket"`
	Key    string           `json:"key"`
	Value  *json.RawMessage `json:"value,omitempty"` // null in an index
	Error  string           `json:"error,omitempty"`
}

// Dump writes every record as a line of JSON, and a line with an error for what
// cannot be read, of which it returns the number.
func Dump(dir string, w io.Writer) (bad int, err error) {
	if err := checkDir(dir); err != nil {
		return 0, err
	}
	out := bufio.NewWriter(w)
	encoder := json.NewEncoder(out)
	// As it was written: a command with < or & is to be found by grep.
	encoder.SetEscapeHTML(false)
	null := json.RawMessage("null")
	err = store.Dump(State(dir), func(r store.Record) error {
		l := line{Bucket: r.Bucket, Key: r.Key, Error: r.Error}
		switch {
		case r.Error != "":
			bad++
		case r.Value == nil:
			l.Value = &null
		case !json.Valid(r.Value):
			l.Error = "the record is not JSON"
			bad++
		default:
			l.Value = (*json.RawMessage)(&r.Value)
		}
		return encoder.Encode(l)
	})
	// What was read before an error is written in any case.
	return bad, refusal(errors.Join(err, out.Flush()), dir, "")
}

// Saved is a backup that was made.
type Saved struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Live  int    `json:"live"` // workers that have not ended
}

// Backup copies the state file in dir to dest, a new file or a directory. A damaged file is
// not copied.
func Backup(ctx context.Context, dir, dest string, force bool, now time.Time) (Saved, error) {
	if err := checkDir(dir); err != nil {
		return Saved{}, err
	}
	// Before the check, which is of the file that is written and not of its directory.
	dest = backupName(dest, now)
	if err := checkDest(dest); err != nil {
		return Saved{}, err
	}
	v, err := store.BackupOffline(ctx, State(dir), dest, force)
	return Saved{dest, v.Bytes, v.Live}, refusal(err, dir, "leave out --data-dir: then the running hive makes the backup")
}

// Receive writes the backup that a running hive sends to dest, and checks it. open is
// called only when dest can be written.
func Receive(ctx context.Context, open func() (io.ReadCloser, error), dest string, force bool, now time.Time) (s Saved, err error) {
	dest = backupName(dest, now)
	if err := checkDest(dest); err != nil {
		return s, err
	}
	// Before the hive is asked, which would send its whole state for nothing.
	if _, err := os.Lstat(dest); err == nil && !force {
		return s, &Refusal{Text: dest + " exists", Hint: "choose another name, or use --force"}
	}
	r, err := open()
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v, err := store.BackupFrom(ctx, r, dest, force)
	return Saved{dest, v.Bytes, v.Live}, err
}

// backupName is dest, or a name with the time in it if dest is a directory.
func backupName(dest string, now time.Time) string {
	if info, err := os.Stat(dest); err == nil && info.IsDir() {
		return filepath.Join(dest, fmt.Sprintf("hive-%s.db", now.UTC().Format(store.StampFormat)))
	}
	return dest
}

// Restored is what a restore has done, or would do.
type Restored struct {
	File    string     `json:"file"`
	Path    string     `json:"path"`
	SavedAs *string    `json:"aside"`  // where the old file was saved; null: there was none
	Newest  *time.Time `json:"newest"` // record in the file that was restored
	Live    int        `json:"live"`   // its workers that have not ended
	Before  *int       `json:"live_before"`
	Damage  *string    `json:"damage"` // what is wrong with the old file
	Schema  int        `json:"schema"`
	DryRun  bool       `json:"dry_run"`
	Current time.Time  `json:"-"` // newest record of the old file; zero: not known
}

// Restore puts a copy of file in the place of the state file in dir.
func Restore(ctx context.Context, dir, file string, dryRun bool, now time.Time) (Restored, error) {
	for _, err := range []error{checkDir(dir), checkSource(file)} {
		if err != nil {
			return Restored{}, err
		}
	}
	path := State(dir)
	savedAs := path + ".before-restore-" + now.UTC().Format(store.StampFormat)
	// The time is in the name, so that a second restore keeps its file beside that of the first.
	r, err := store.Restore(ctx, file, path, savedAs, dryRun)
	out := Restored{File: file, Path: path, Live: r.From.Live, Schema: r.Schema, DryRun: dryRun}
	if err != nil {
		return out, restoreRefusal(err, dir, file)
	}
	if !r.From.Newest.IsZero() {
		out.Newest = &r.From.Newest
	}
	if r.SavedAs != "" {
		out.SavedAs = &r.SavedAs
	}
	if r.Before != nil {
		out.Before, out.Current = &r.Before.Live, r.Before.Newest
	}
	if r.Damage != nil {
		text := r.Damage.Error()
		out.Damage = &text
	}
	return out, nil
}

// restoreRefusal says which of the two files an error is about.
func restoreRefusal(err error, dir, file string) error {
	if found, rest := store.Findings(err); len(found) > 0 && rest == nil || errors.As(err, new(*store.CorruptError)) {
		text := err.Error()
		if len(found) > 0 {
			text = found[0].String()
		}
		return &Refusal{Text: fmt.Sprintf("%s is damaged, nothing was changed: %s", file, text), Hint: "take an older backup; `hivectl db salvage` reads what can be read of a damaged state file"}
	}
	return refusal(err, dir, "")
}

// Compacted is what a compaction has done.
type Compacted struct {
	Path   string `json:"path"`
	Before int64  `json:"bytes_before"`
	After  int64  `json:"bytes_after"`
}

// Compact rewrites the state file in dir without its free pages.
func Compact(ctx context.Context, dir string) (Compacted, error) {
	if err := checkDir(dir); err != nil {
		return Compacted{}, err
	}
	before, after, err := store.Compact(ctx, State(dir))
	return Compacted{State(dir), before, after}, refusal(err, dir, "")
}
