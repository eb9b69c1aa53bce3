package logs

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Retention says what Prune keeps.
type Retention struct {
	MaxTotal  int64         // bytes, of the logs of all ended workers together
	OrphanAge time.Duration // a file of no worker is kept for so long after it was last changed
	// KeepOrphans: not all workers may be known, so files of no worker are kept for good.
	KeepOrphans bool
	// Evidence returns the ids of workers, known or not, whose log may be needed to find
	// what is left of them: it stays, whatever its size and age. It is asked only if
	// something is to be removed, and after the sources.
	Evidence func() (map[string]bool, error)
}

// Prune removes the files of no worker that are old, and of ended workers' logs what is
// too much. An ended worker's log is rotated like those of the living: somebody may still
// write to it, and one that was made huge must not drive out those of others. sources
// returns the workers that there are, the ended ones in the order of their end. It blocks
// for the copies, and goes on when single files cannot be removed: the next time they are
// tried again. Errors: of listing the directory, and Evidence's.
func (d *Dir) Prune(ctx context.Context, sources func() []Source, keep Retention) error {
	s, err := d.survey(sources, keep)
	// Rotation has changed the sizes that the rest decides by.
	if err == nil && d.rotateEnded(ctx, s) {
		s, err = d.survey(sources, keep)
	}
	if err != nil {
		return err
	}
	total := int64(0)
	for _, f := range s.files {
		total += f.size
	}
	if len(s.orphans) == 0 && total <= keep.MaxTotal {
		return nil
	}
	// Last, since it looks at processes, and mostly nothing is to be removed.
	evidence, err := keep.Evidence()
	if err != nil {
		return err
	}
	for _, f := range s.orphans {
		if !evidence[f.id] {
			_ = os.Remove(filepath.Join(d.dir, f.name)) // tried again in the next round
		}
	}
	d.enforceTotal(s, evidence, keep.MaxTotal)
	return nil
}

// Remove removes the log of a worker whose record is gone, and all that was moved out of
// it.
func (d *Dir) Remove(id string) {
	path := d.Path(id)
	l := d.log(id, path)
	l.changing.Lock()
	defer l.changing.Unlock()
	_ = os.Remove(path) // gone already is as good
	_ = os.Remove(path + ".new")
	// A number may be left out, and more may have been kept before.
	for n := 1; ; n++ {
		if err := os.Remove(path + "." + strconv.Itoa(n)); err != nil && n > d.cfg.Keep {
			break
		}
	}
	// The entry goes last: until then whoever rotates this log waits for the same lock.
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.logs, id)
}

// dirFile is a file in the directory that is named like a log.
type dirFile struct {
	name    string
	id      string // of the worker
	n       int    // 0: the log itself; from 1 on: a rotated one; tempFile: it was being written
	extent  int64  // its size, or if that is more what it takes on the disk
	size    int64  // what counts for Retention.MaxTotal: a hole takes no room
	changed time.Time
}

const tempFile = -1

// parseName takes the name of a file apart.
func parseName(name string) (id string, n int, ok bool) {
	if id, found := strings.CutSuffix(name, ".log"); found {
		return id, 0, id != ""
	}
	if id, found := strings.CutSuffix(name, ".log.new"); found {
		return id, tempFile, id != ""
	}
	dot := strings.LastIndexByte(name, '.')
	id, found := strings.CutSuffix(name[:max(dot, 0)], ".log")
	n, err := strconv.Atoi(name[dot+1:])
	return id, n, found && id != "" && err == nil && n > 0
}

// list returns the files that are named like logs, by name. Others are somebody's own.
func (d *Dir) list() ([]dirFile, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list the logs: %w", err)
	}
	var list []dirFile
	for _, e := range entries {
		id, n, ok := parseName(e.Name())
		if !ok || e.IsDir() {
			continue
		}
		if fi, err := e.Info(); err == nil { // else it has just gone
			room := allocated(fi)
			list = append(list, dirFile{e.Name(), id, n, max(fi.Size(), room), min(fi.Size(), room), fi.ModTime()})
		}
	}
	return list, nil
}

// survey is what Prune decides by.
type survey struct {
	ended   []Source  // in the order of their end
	files   []dirFile // of these
	orphans []dirFile // old, and nobody's
}

// survey lists the files before it asks for the sources, so that a log that is made
// meanwhile is not taken for an orphan. Claims come before sources, since a worker has
// its record before its claim is released. What a killed hive was writing is removed.
func (d *Dir) survey(sources func() []Source, keep Retention) (s survey, err error) {
	files, err := d.list()
	if err != nil {
		return survey{}, err
	}
	known, ended := d.claimed(), map[string]Source{}
	for _, src := range sources() {
		known[src.ID] = true
		if src.Ended {
			s.ended, ended[src.ID] = append(s.ended, src), src
		}
	}
	d.forgetUnknown(known)
	for _, f := range files {
		src, isEnded := ended[f.id]
		switch {
		case isEnded && f.n == tempFile:
			d.log(src.ID, src.Path).removeTemp()
		case isEnded:
			s.files = append(s.files, f)
		case !known[f.id] && !keep.KeepOrphans && time.Since(f.changed) > keep.OrphanAge:
			s.orphans = append(s.orphans, f)
		}
	}
	return s, nil
}

// forgetUnknown forgets the logs of workers that there are no more.
func (d *Dir) forgetUnknown(known map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.logs {
		// The claims once more: one may have been made since known was.
		if !known[id] && !d.claims[id] {
			delete(d.logs, id)
		}
	}
}

func (l *log) removeTemp() {
	if l.changing.TryLock() { // else it is being written now
		defer l.changing.Unlock()
		_ = os.Remove(l.tempPath())
	}
}

// rotateEnded rotates the logs of ended workers that are too large, and reports whether
// there were any.
func (d *Dir) rotateEnded(ctx context.Context, s survey) bool {
	large := map[string]bool{}
	for _, f := range s.files {
		if f.n == 0 && f.extent > d.cfg.MaxSize {
			large[f.id] = true
		}
	}
	for _, src := range s.ended {
		if large[src.ID] {
			d.rotateSource(ctx, src)
		}
	}
	return len(large) > 0
}

// enforceTotal removes files of ended workers until together they have at most limit
// bytes: first what was rotated, then the logs themselves, those of the oldest first.
func (d *Dir) enforceTotal(s survey, evidence map[string]bool, limit int64) {
	total, order := int64(0), map[string]int{}
	for i, src := range s.ended {
		order[src.ID] = i
	}
	for _, f := range s.files {
		total += f.size
	}
	// The log itself goes after all that was rotated: it has the end, which says why a worker died.
	slices.SortFunc(s.files, func(a, b dirFile) int {
		return cmp.Or(cmp.Compare(min(b.n, 1), min(a.n, 1)), cmp.Compare(order[a.id], order[b.id]), cmp.Compare(b.n, a.n))
	})
	removed, bytes := 0, int64(0)
	for _, f := range s.files {
		if total <= limit {
			break
		}
		// Only the log itself is evidence: no process has a rotated file as its stdout.
		if f.n == 0 && evidence[f.id] {
			continue
		}
		src := s.ended[order[f.id]]
		// What could not be removed still takes its room, so the next one has to go.
		if d.log(src.ID, src.Path).remove(f.n, filepath.Join(d.dir, f.name)) {
			total, removed, bytes = total-f.size, removed+1, bytes+f.size
		}
	}
	if removed > 0 {
		d.out.WithField("files", removed).WithField("bytes", bytes).Info("the oldest logs of dead workers were removed (logs.max_total)")
	}
}

// remove removes the n-th file of an ended worker's log.
func (l *log) remove(n int, path string) bool {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rotated = slices.DeleteFunc(l.rotated, func(s segment) bool { return n > 0 && s.n == n })
	return os.Remove(path) == nil
}
