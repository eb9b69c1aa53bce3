package salvage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/hive/trust"
	"rbeehive/store"
)

// ErrNeedless: the file is intact and has everything that the processes show.
var ErrNeedless = errors.New("the state file is intact and has every running worker: there is nothing to salvage")

// ErrNothing: there is neither a state file nor a backup nor a living worker.
var ErrNothing = errors.New("no state file, no good backup and no running worker: hive creates a new state file when it starts")

// Kept is a living worker that the new file has.
type Kept struct {
	WorkerID string
	Name     string // empty: it has none, or it is lost
	Port     uint16
	PID      int // 0: only processes of it are left, and not the main one
	From     string
	// Proof says by what the process was taken for the worker, in words.
	Proof string
}

// Plan is what a salvage would do.
type Plan struct {
	DataDir  string
	Bytes    int64 // length of the damaged file; 0: there is none
	Damage   []store.Finding
	Backup   string // path of the backup that was read; empty: there is no good one
	BackupAt time.Time

	Living    []Kept
	ToVerify  []string // workers of the file that hive has to verify
	Failed    []string // workers that are recorded as failed
	LeftAlone []string // processes that are left alone, each with the reason
	Lost      []string // what is lost, in words
	Records   []store.Count

	content store.Content
	savedAs string
	lock    *store.FileLock
}

// Make makes a plan for the state file in a data directory, and takes its lock. It
// blocks for the reads of the file, of the backups and of /proc. Errors:
// *store.LockedError and store.ErrClaimed if a hive runs on it, ErrNeedless, ErrNothing,
// migrations.ErrNewer, proc.ErrUnsupported elsewhere than on Linux, *trust.Error for a
// backup, the system's. The plan must be closed.
func Make(ctx context.Context, dataDir string) (*Plan, error) {
	p := &Plan{DataDir: dataDir}
	if err := p.make(ctx); err != nil {
		// The lock may be held already.
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close gives the lock back.
func (p *Plan) Close() error {
	err := p.lock.Release()
	p.lock = nil
	return err
}

func (p *Plan) path() string { return filepath.Join(p.DataDir, "hive.db") }

func (p *Plan) make(ctx context.Context) error {
	known, err := p.read(ctx)
	if err != nil {
		return err
	}
	seen, err := p.findWorkers(ctx, known)
	if err != nil {
		return err
	}
	d := newDecision(known, seen, filepath.Join(p.DataDir, "logs"), time.Now().UTC().Truncate(time.Millisecond))
	p.content = d.decide()
	p.Living, p.ToVerify, p.Failed, p.LeftAlone, p.Lost = d.living, d.toVerify, d.failed, d.leftAlone, d.lost
	// Only now: a whole file may still lack a living worker.
	if len(p.Damage) == 0 && p.Bytes > 0 && !d.news {
		return ErrNeedless
	}
	if p.Bytes == 0 && p.Backup == "" && len(p.Living) == 0 {
		if p.lock != nil { // there is a file
			return fmt.Errorf("%s is empty: remove it first; %w", p.path(), ErrNothing)
		}
		return ErrNothing
	}
	c := p.content
	p.Records = []store.Count{
		{Bucket: "leases", Records: len(c.Leases)},
		{Bucket: "ended", Records: len(c.Tombstones)},
		{Bucket: "workers", Records: len(c.Workers)},
		{Bucket: "names", Records: len(c.Names)},
		{Bucket: "jobs", Records: len(c.Jobs)},
		{Bucket: "events", Records: len(c.Events)},
		{Bucket: "keys", Records: len(c.Keys)},
	}
	return nil
}

// read gathers what the damaged file and the newest good backup say.
func (p *Plan) read(ctx context.Context) (*known, error) {
	// Before the lock is taken, which the check needs, too.
	contradictions := findings(ctx, p.path())
	var err error
	p.lock, err = store.LockFile(p.path())
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, err
	}
	k := &known{file: &store.Gathered{Whole: map[string]bool{}}, backup: &store.Gathered{}}
	if !missing {
		if k.file, err = store.Gather(p.lock.File(), false); err != nil {
			return nil, err
		}
		p.Bytes, p.Damage = k.file.Bytes, k.file.Damage
		if len(p.Damage) == 0 {
			p.Damage = contradictions
		}
	}
	// To a whole file a backup, which is older, adds nothing.
	if !missing && len(p.Damage) == 0 {
		return k, nil
	}
	p.Backup, p.BackupAt, err = newestGood(ctx, filepath.Join(p.DataDir, "backups"))
	if err != nil || p.Backup == "" {
		return k, err
	}
	backup, err := os.Open(p.Backup)
	if err != nil {
		return nil, err
	}
	defer backup.Close()
	k.backup, err = store.Gather(backup, true)
	return k, err
}

// newestGood finds the newest backup in which nothing is wrong. One on the way that is not
// trusted is an error, *trust.Error.
func newestGood(ctx context.Context, dir string) (path string, at time.Time, err error) {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.db")) // the pattern is well formed unless the directory's name is not
	times, order, now := map[string]time.Time{}, map[string]time.Time{}, time.Now()
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			times[path], order[path] = info.ModTime(), info.ModTime()
		}
		// Made while the clock was ahead: how old it is nobody can say, so any other one goes before it.
		if order[path].After(now) {
			order[path] = time.Time{}
		}
	}
	// By time, not by name: one made by hand may be called anything.
	slices.SortFunc(paths, func(a, b string) int { return order[b].Compare(order[a]) })
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return "", at, err
		}
		if err := trust.File(path); err != nil { // what is in it becomes hive's state
			return "", at, err
		}
		if good(ctx, path) {
			return path, times[path], nil
		}
	}
	return "", at, nil
}

// findings is what a full check says, for a file all of whose records can be read:
// they may contradict each other, or what is damaged is the list of free pages. What
// is no finding Take or Gather says better.
func findings(ctx context.Context, path string) []store.Finding {
	o, err := store.OpenOffline(path, false)
	if err == nil {
		err = errors.Join(o.Check(ctx), o.Close())
	}
	found, _ := store.Findings(err)
	return found
}

func good(ctx context.Context, path string) bool {
	o, err := store.OpenOffline(path, false)
	if err != nil {
		return false
	}
	return errors.Join(o.Check(ctx), o.Close()) == nil
}

// findWorkers finds the living workers. Whose log is in this directory is of this state,
// and its stamp says what that is called, if the file does not. From a process of
// another user than hive's that is taken for what hive may run, not for who else may
// be a worker.
func (p *Plan) findWorkers(ctx context.Context, k *known) (*seen, error) {
	owner, err := ownerOf(p.DataDir)
	if err != nil {
		return nil, err
	}
	what := proc.Search{Logs: filepath.Join(p.DataDir, "logs"), States: k.states(), Secrets: k.secrets(), Owner: owner, Users: k.users()}
	found, err := proc.FindLiving(ctx, what)
	if err != nil {
		return nil, err
	}
	more := len(what.States)
	for _, l := range found {
		if l.StateID == "" || slices.Contains(what.States, l.StateID) {
			continue
		}
		// A hive of that state is running, perhaps on a copy of this directory.
		if err := store.Unclaimed(l.StateID); err != nil {
			return nil, fmt.Errorf("state id %q, which %q (pid %d) has in its stamps: %w: these are that hive's workers; stop it first", l.StateID, l.Program, l.PID, err)
		}
		// Another user's process could name any state in its stamp.
		if l.UID == owner {
			what.States = append(what.States, l.StateID)
		}
	}
	// Once more: by the new ids processes are found that have no log here.
	if len(what.States) > more {
		if found, err = proc.FindLiving(ctx, what); err != nil {
			return nil, err
		}
	}
	for _, id := range what.States {
		if err := store.Unclaimed(id); err != nil {
			return nil, fmt.Errorf("state id %s: %w: these are that hive's workers; stop it first", id, err)
		}
	}
	return observe(ctx, k, found, what.States)
}

// ownerOf returns whose a directory is; of one that is not there, whose it would be.
func ownerOf(dir string) (uint32, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return uint32(os.Geteuid()), nil
	}
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%s: its owner cannot be determined", dir)
	}
	return st.Uid, nil
}

// SavedAs is where the damaged file will be, or is; empty: there is none.
func (p *Plan) SavedAs() string {
	if p.lock == nil || p.Bytes == 0 {
		return p.savedAs
	}
	if p.savedAs == "" {
		p.savedAs = p.path() + ".damaged-" + time.Now().UTC().Format(store.StampFormat)
	}
	return p.savedAs
}

// Apply writes the new file and puts it in place. If it fails nothing was changed.
func (p *Plan) Apply(ctx context.Context) error {
	return store.Rebuild(ctx, p.path(), p.lock, p.SavedAs(), p.content)
}

// lastWords is the event that tells about the salvage for as long as events are kept.
func (d *decision) lastWords() string {
	return fmt.Sprintf("the state file was rebuilt by a salvage: %s", strings.Join([]string{
		counted(len(d.living), "living worker", "living workers"), counted(len(d.toVerify), "worker to be judged", "workers to be judged"),
		counted(len(d.failed), "worker recorded as failed", "workers recorded as failed"),
	}, ", "))
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
