package hive

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

	"rbeehive/store"
)

// removeLog removes the log of a worker whose record is gone, and all that was
// moved out of it.
func (h *Hive) removeLog(rec store.Worker) {
	f := h.logs.of(rec)
	f.change.Lock()
	defer f.change.Unlock()
	path := h.logPath(rec.WorkerID)
	_ = os.Remove(path) // gone already is as good
	_ = os.Remove(path + ".new")
	for n := 1; ; n++ {
		if err := os.Remove(path + "." + strconv.Itoa(n)); err != nil && n > h.cfg.Logs.Keep {
			break
		}
	}
	h.logs.forget(rec.WorkerID)
}

func (l *logs) forget(workerID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.files, workerID)
}

// logEntry is a file in logs/.
type logEntry struct {
	name     string
	workerID string
	n        int   // 0: the log itself; from 1 on: a rotated one; unfinished: it was being written
	large    int64 // its size, or if that is more what it takes on the disk
	size     int64 // what counts for logs.max_total: a hole takes no room
	changed  time.Time
}

const unfinished = -1

// parseLogName takes the name of a file in logs/ apart.
func parseLogName(name string) (workerID string, n int, ok bool) {
	if id, found := strings.CutSuffix(name, ".log"); found {
		return id, 0, id != ""
	}
	if id, found := strings.CutSuffix(name, ".log.new"); found {
		return id, unfinished, id != ""
	}
	dot := strings.LastIndexByte(name, '.')
	id, found := strings.CutSuffix(name[:max(dot, 0)], ".log")
	n, err := strconv.Atoi(name[dot+1:])
	return id, n, found && id != "" && err == nil && n > 0
}

// list returns the files in logs/ that are named like logs, by name. Others are
// somebody's own.
func (l *logs) list() ([]logEntry, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list the logs: %w", err)
	}
	var list []logEntry
	for _, e := range entries {
		id, n, ok := parseLogName(e.Name())
		if !ok || e.IsDir() {
			continue
		}
		if fi, err := e.Info(); err == nil { // else it has just gone
			room := allocated(fi)
			list = append(list, logEntry{e.Name(), id, n, max(fi.Size(), room), min(fi.Size(), room), fi.ModTime()})
		}
	}
	return list, nil
}

// pruneLogs removes files that belong to no record, and of dead workers' logs
// what is too much. The logs of quarantined ports stay, being proofs. A dead worker's
// log is rotated like those of the living: somebody may still write to it, and one that
// was made huge must not drive out those of others.
func (h *Hive) pruneLogs(ctx context.Context) {
	dead, kept, strays, err := h.logsOfDead()
	if err == nil && h.rotateDead(ctx, dead, kept) {
		dead, kept, strays, err = h.logsOfDead()
	}
	if err != nil {
		h.cfg.Log.WithError(err).Warn("old logs cannot be removed")
		return
	}
	if h.store.Meta().Relocated {
		strays = nil // an older file that was restored does not know all workers
	}
	total := int64(0)
	for _, e := range kept {
		total += e.size
	}
	if len(strays) == 0 && total <= h.settings().LogsMaxTotal {
		return
	}
	held, err := h.holderless()
	if err != nil {
		h.logUnlessClosing(err, "read the leases", "")
		return
	}
	proofs := map[string]bool{}
	for _, l := range held {
		proofs[l.WorkerID] = true
	}
	for _, e := range strays {
		if !proofs[e.workerID] {
			_ = os.Remove(filepath.Join(h.logs.dir, e.name)) // tried again in the next round
		}
	}
	h.logs.bound(kept, dead, proofs, h.settings().LogsMaxTotal)
}

// logsOfDead returns the dead workers, oldest first, their files, and those that are
// nobody's.
func (h *Hive) logsOfDead() (dead []store.Worker, kept, strays []logEntry, err error) {
	files, err := h.logs.list() // before the records: what begins meanwhile is not in it
	if err != nil {
		return nil, nil, nil, err
	}
	dead, alive := h.recorded() // before the leases: they are quarantined before their worker is among the dead
	kept, strays = h.sortLogs(files, dead, alive)
	return dead, kept, strays, nil
}

// rotateDead rotates those of the files that are too large, and reports whether there
// were any.
func (h *Hive) rotateDead(ctx context.Context, dead []store.Worker, files []logEntry) bool {
	large := map[string]bool{}
	for _, e := range files {
		if e.n == 0 && e.large > h.cfg.Logs.MaxSize {
			large[e.workerID] = true
		}
	}
	for _, rec := range dead {
		if large[rec.WorkerID] {
			h.rotateLog(ctx, &rec)
		}
	}
	return len(large) > 0
}

// recorded returns the dead workers, oldest first, and the ids of all others
// that have a log.
func (h *Hive) recorded() (dead []store.Worker, alive map[string]bool) {
	alive = h.logs.begun() // first: a worker is enlisted before it is no longer starting
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.workers {
		alive[id] = true
	}
	return slices.Clone(h.dead), alive
}

func (l *logs) begun() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := map[string]bool{}
	for id := range l.starting {
		ids[id] = true
	}
	return ids
}

// sortLogs returns the files of dead workers, and those that are old and belong
// to nobody. What a killed hive was writing is removed.
func (h *Hive) sortLogs(files []logEntry, dead []store.Worker, alive map[string]bool) (kept, strays []logEntry) {
	ids := map[string]store.Worker{}
	for _, rec := range dead {
		ids[rec.WorkerID] = rec
	}
	h.logs.trim(func(id string) bool { _, ok := ids[id]; return ok || alive[id] })
	for _, e := range files {
		rec, known := ids[e.workerID]
		switch {
		case known && e.n == unfinished:
			h.logs.of(rec).removeUnfinished()
		case known:
			kept = append(kept, e)
		case !alive[e.workerID] && time.Since(e.changed) > h.settings().WorkersKeep:
			strays = append(strays, e)
		}
	}
	return kept, strays
}

// trim forgets the logs that nobody has a record of any more.
func (l *logs) trim(known func(workerID string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.files {
		if !known(id) && !l.starting[id] {
			delete(l.files, id)
		}
	}
}

func (f *logFile) removeUnfinished() {
	if f.change.TryLock() { // else it is being written now
		defer f.change.Unlock()
		_ = os.Remove(f.unfinished())
	}
}

// bound removes logs of dead workers until together they have at most most bytes:
// first what was rotated, then the logs themselves, those of the oldest first.
func (l *logs) bound(files []logEntry, dead []store.Worker, proofs map[string]bool, most int64) {
	total, age := int64(0), map[string]int{}
	for i, rec := range dead {
		age[rec.WorkerID] = i
	}
	for _, e := range files {
		total += e.size
	}
	slices.SortFunc(files, func(a, b logEntry) int {
		return cmp.Or(cmp.Compare(min(b.n, 1), min(a.n, 1)), cmp.Compare(age[a.workerID], age[b.workerID]), cmp.Compare(b.n, a.n))
	})
	removed, bytes := 0, int64(0)
	for _, e := range files {
		if total <= most {
			break
		}
		if e.n == 0 && proofs[e.workerID] {
			continue
		}
		if l.of(dead[age[e.workerID]]).remove(e.n, filepath.Join(l.dir, e.name)) {
			total, removed, bytes = total-e.size, removed+1, bytes+e.size
		}
	}
	if removed > 0 {
		l.out.WithField("files", removed).WithField("bytes", bytes).Info("the oldest logs of dead workers were removed (logs.max_total)")
	}
}

// remove removes the n-th file of a dead worker's log.
func (f *logFile) remove(n int, path string) bool {
	f.change.Lock()
	defer f.change.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.old = slices.DeleteFunc(f.old, func(p piece) bool { return n > 0 && p.n == n })
	return os.Remove(path) == nil
}
