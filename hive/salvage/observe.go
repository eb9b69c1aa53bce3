package salvage

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"regexp"
	"slices"
	"strconv"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// known is what the files say.
type known struct {
	file, backup *store.Gathered
}

// workers returns what is known of each worker, by id, best first.
func (k *known) workers() map[string][]store.Version[store.Worker] {
	byID := map[string][]store.Version[store.Worker]{}
	for _, v := range k.file.Workers {
		byID[v.Record.WorkerID] = append(byID[v.Record.WorkerID], v)
	}
	if !k.file.Whole["workers"] {
		for _, v := range k.backup.Workers {
			byID[v.Record.WorkerID] = append(byID[v.Record.WorkerID], v)
		}
	}
	for _, versions := range byID {
		// All that is of the past is alike: there the latest time decides.
		slices.SortStableFunc(versions, func(a, b store.Version[store.Worker]) int {
			return cmp.Or(cmp.Compare(age(a.Source), age(b.Source)), lastTime(b.Record).Compare(lastTime(a.Record)))
		})
	}
	return byID
}

// age makes no difference between sources that are of the past.
func age(s store.Source) int { return int(min(s, store.FromFreed)) }

// lastTime is the latest time in a record: what was written later says more.
func lastTime(w store.Worker) time.Time {
	t := w.StartedAt
	for _, other := range []*time.Time{w.ReadyAt, w.EndedAt, w.NextTry} {
		if other != nil && other.After(t) {
			t = *other
		}
	}
	return t
}

// secrets returns the secrets of states, as far as it is certain which state's they are:
// both are of now, or there is no other.
func (k *known) secrets() map[string]store.Secret {
	all := map[string]store.Secret{}
	// The file last, so that it wins over the backup.
	for _, g := range []*store.Gathered{k.backup, k.file} {
		alone := len(distinct(g.StateIDs)) == 1 && len(distinct(g.Secrets)) == 1
		for _, secret := range g.Secrets {
			for _, id := range g.StateIDs {
				now := id.Source == store.FromTree || id.Source == store.FromBackup
				if alone || now && secret.Source == id.Source {
					all[id.Record] = secret.Record
				}
			}
		}
	}
	return all
}

// users returns as whom the workers were started, as far as their records say it.
func (k *known) users() (uids []uint32) {
	for _, versions := range k.workers() {
		for _, v := range versions {
			if uid := v.Record.StampUID; uid != nil && !slices.Contains(uids, *uid) {
				uids = append(uids, *uid)
			}
		}
	}
	return uids
}

// distinct returns the records without doubles.
func distinct[T ~string | ~[]byte](versions []store.Version[T]) map[string]bool {
	set := map[string]bool{}
	for _, v := range versions {
		set[string(v.Record)] = true
	}
	return set
}

// states returns every state id that the files name, best first.
func (k *known) states() (ids []string) {
	for _, v := range append(slices.Clone(k.file.StateIDs), k.backup.StateIDs...) {
		if !slices.Contains(ids, v.Record) {
			ids = append(ids, v.Record)
		}
	}
	return ids
}

// seen is what the processes say.
type seen struct {
	states  []string // state ids, best first
	secrets map[string]store.Secret
	alive   map[string]*group
	forged  []proc.Living // stamps without the proof that they should have
}

// group is the living processes of one worker.
type group struct {
	main    *store.Identity // of the main process; nil: it has ended
	unknown bool            // the recorded main process cannot be verified
	found   []proc.Living
	started time.Time // of the main process, as its log says; zero: it does not
	ports   []uint16  // on which they listen; only looked at if there is no record
}

// observe groups the processes by worker, and finds each one's main process.
func observe(ctx context.Context, k *known, found []proc.Living, states []string) (*seen, error) {
	s := &seen{states: states, secrets: k.secrets(), alive: map[string]*group{}}
	records := k.workers()
	for _, l := range found {
		// Anybody can copy stamps, but not their proof.
		if s.unproven(l, records[l.WorkerID]) {
			s.forged = append(s.forged, l)
			continue
		}
		g := s.group(l.WorkerID)
		g.found = append(g.found, l)
	}
	for id, versions := range records {
		for _, v := range versions {
			s.verify(id, v)
		}
	}
	for id, g := range s.alive {
		if g.main == nil {
			g.findMain(g.log())
		}
		if len(records[id]) > 0 || g.main == nil {
			continue
		}
		if err := g.findPorts(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// unproven reports whether a process has nothing but stamps, without the proof that the
// worker was started with. Without the secret nobody can tell.
func (s *seen) unproven(l proc.Living, versions []store.Version[store.Worker]) bool {
	if _, known := s.secrets[l.StateID]; !known || l.Proof != proc.ProofStamp || l.Proven {
		return false
	}
	return slices.ContainsFunc(versions, func(v store.Version[store.Worker]) bool {
		return v.Record.LeaseID == l.LeaseID && v.Record.StampUID != nil
	})
}

func (s *seen) group(id string) *group {
	if s.alive[id] == nil {
		s.alive[id] = &group{}
	}
	return s.alive[id]
}

// verify checks whether a recorded process lives. One that does may say nothing by itself:
// many programs overwrite their environment.
func (s *seen) verify(id string, v store.Version[store.Worker]) {
	// Versions come best first: what follows a living process is older.
	if v.Record.Identity == nil || v.Record.State.Ended() || s.alive[id] != nil && s.alive[id].main != nil {
		return
	}
	switch verdict, _ := proc.Verify(*v.Record.Identity); verdict {
	case proc.Alive:
		s.group(id).main = v.Record.Identity
	case proc.Unknown:
		// On an old page an unknown process means nothing.
		if v.Source <= store.FromLost {
			s.group(id).unknown = true
		}
	}
}

// startedLine is what hive writes into the log of a worker that it starts.
var startedLine = regexp.MustCompile(`(?m)^--- hive: started(?: again,)? pid (\d+) port \d+ (\S+)$`)

// maxScanned is how much of the head and of the tail of a log is searched.
const maxScanned = 1 << 20

// log returns what of the worker's log may have hive's lines in it.
func (g *group) log() (text []byte) {
	for _, l := range g.found {
		f, err := proc.OpenOutput(l.PID)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil {
			text = headAndTail(f, info.Size())
		}
		_ = f.Close()
		if len(text) > 0 {
			return text
		}
	}
	return nil
}

func headAndTail(f io.ReaderAt, size int64) []byte {
	if size <= 2*maxScanned {
		text, _ := io.ReadAll(io.NewSectionReader(f, 0, size)) // what can be read of it
		return text
	}
	head, _ := io.ReadAll(io.NewSectionReader(f, 0, maxScanned))
	tail, _ := io.ReadAll(io.NewSectionReader(f, size-maxScanned, maxScanned))
	return bytes.Join([][]byte{head, tail}, []byte("\n"))
}

// findMain finds the main process: the one that was started last by the log, or
// else the oldest leader of a session that no other process of the worker has made.
func (g *group) findMain(log []byte) {
	var main *proc.Living
	for _, m := range startedLine.FindAllSubmatch(log, -1) {
		pid, _ := strconv.Atoi(string(m[1]))
		if i := slices.IndexFunc(g.found, func(l proc.Living) bool { return l.PID == pid && l.Leader }); i >= 0 {
			// The last line counts: the worker may have been started again.
			main = &g.found[i]
			g.started, _ = time.Parse(time.RFC3339, string(m[2]))
		}
	}
	for i, l := range g.found {
		inside := slices.ContainsFunc(g.found, func(other proc.Living) bool { return other.PID == l.Parent })
		if main == nil && l.Leader && !inside || main != nil && g.started.IsZero() && l.Leader && !inside && l.Start < main.Start {
			main = &g.found[i]
		}
	}
	if main == nil {
		return
	}
	// The PID may be another process's since /proc was read.
	if id, err := proc.Identify(main.PID); err == nil && id.StartTicks == main.Start {
		g.main = &id
	}
}

// findPorts finds the ports on which the worker listens.
func (g *group) findPorts(ctx context.Context) error {
	snap, err := sockets.NewTable().Snapshot(ctx, 0)
	if err != nil {
		return err
	}
	p, verdict, _ := proc.Adopt(*g.main)
	if verdict != proc.Alive {
		return nil // it has ended meanwhile: hive will find that out
	}
	defer p.Close()
	first := g.first()
	g.ports, err = (&proc.Tree{
		Main: p, Identity: *g.main, Cgroup: first.Cgroup, WorkerID: first.WorkerID, StateID: first.StateID, LeaseID: first.LeaseID, UID: first.UID,
	}).ListenPorts(ctx, snap)
	return err
}

// first is the main process, or the first one that was found.
func (g *group) first() proc.Living {
	for _, l := range g.found {
		if g.main != nil && l.PID == g.main.PID {
			return l
		}
	}
	if len(g.found) > 0 {
		return g.found[0]
	}
	return proc.Living{}
}

// proof says by what the first process was taken for the worker.
func (g *group) proof() string {
	first := g.first()
	switch {
	case first.Proof == proc.ProofCgroup:
		return "its cgroup"
	case g.main != nil && (first.Proof == "" || first.PID != g.main.PID):
		return "the recorded identity"
	case first.Proof == proc.ProofLog:
		return "its log"
	case first.Proven:
		return "its stamps"
	}
	return "its stamps and its user"
}
