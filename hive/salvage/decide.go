package salvage

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"rbeehive/hive/input"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// decision turns what the files and the processes say into the content of the new
// file. It looks at nothing else.
type decision struct {
	known   *known
	seen    *seen
	logs    string // directory
	now     time.Time
	content store.Content

	found []store.Lease     // best first
	taken map[uint16]string // ports that are given away, to which lease
	ended map[string]bool   // leases that are known to have ended
	named map[string]bool   // names of workers that live
	news  bool              // the processes say something that the file does not

	living                            []Kept
	toVerify, failed, leftAlone, lost []string
}

func newDecision(k *known, s *seen, logs string, now time.Time) *decision {
	return &decision{known: k, seen: s, found: leasesOf(k), logs: logs, now: now, taken: map[uint16]string{}, ended: map[string]bool{}, named: map[string]bool{}}
}

func (d *decision) decide() store.Content {
	d.meta()
	d.tombstones()
	workers := d.known.workers()
	for id := range d.seen.alive {
		for _, v := range workers[id] {
			d.named[v.Record.Name] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.seen.alive)) { // they come first: the ports are theirs
		d.keepLiving(id, workers[id])
	}
	// Records only after the living, whose ports they must not take.
	kept := map[string]bool{}
	for _, w := range d.content.Workers {
		kept[w.WorkerID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(workers)) {
		if !kept[id] {
			d.keepRecord(workers[id][0])
		}
	}
	d.otherLeases()
	for _, l := range d.seen.forged {
		d.leftAlone = append(d.leftAlone, fmt.Sprintf("%s (pid %d, uid %d): it has the stamps of worker %s without their proof", l.Program, l.PID, l.UID, l.WorkerID))
	}
	d.names()
	d.jobs()
	d.events()
	d.losses()
	return d.content
}

func (d *decision) meta() {
	file, backup := d.known.file, d.known.backup
	c := &d.content
	if len(d.seen.states) > 0 {
		// The id in the workers' stamps: under another they would be strangers.
		c.StateID = d.seen.states[0]
		c.Secret = d.seen.secrets[c.StateID]
	}
	for _, v := range append(slices.Clone(file.MachineIDs), backup.MachineIDs...) {
		c.MachineID = cmp.Or(c.MachineID, v.Record)
	}
	for _, v := range append(slices.Clone(file.CreatedAt), backup.CreatedAt...) {
		if c.CreatedAt.IsZero() || v.Record.Before(c.CreatedAt) {
			c.CreatedAt = v.Record
		}
	}
	// Once more a file was put in place by hand.
	c.Incarnation = max(file.Incarnation, backup.Incarnation) + 1
	c.Cursor = cmp.Or(file.Cursor, backup.Cursor)
	// Numbers of events that were lost are not used again: who reads on from one
	// would miss what comes after it.
	c.Sequence = max(file.Sequence, backup.Sequence) + sequenceGap
	c.Pruned = max(file.Pruned, backup.Pruned)
	// Readers who go on from an earlier event are told that some are missing.
	if !file.Whole["events"] {
		c.Pruned = c.Sequence // any of them may be missing
	}
}

const sequenceGap = 1000

// tombstones are never taken back, so they are true wherever they were found.
func (d *decision) tombstones() {
	type key struct {
		lease string
		port  uint16
	}
	seen := map[key]bool{}
	for _, v := range records(d.known.file.Tombstones, d.known.backup.Tombstones, d.known.file.Whole["ended"]) {
		k := key{v.Lease.LeaseID, v.Lease.Port}
		if !seen[k] {
			seen[k] = true
			d.content.Tombstones = append(d.content.Tombstones, v)
			d.ended[v.Lease.LeaseID] = true
		}
	}
}

// records joins what the file has with what the backup has, unless the file has all.
func records[T any](file, backup []store.Version[T], whole bool) (list []T) {
	for _, v := range file {
		list = append(list, v.Record)
	}
	if !whole {
		for _, v := range backup {
			list = append(list, v.Record)
		}
	}
	return list
}

// keepLiving keeps a worker of which processes live.
func (d *decision) keepLiving(id string, versions []store.Version[store.Worker]) {
	g := d.seen.alive[id]
	// What lives was left behind by a worker that has ended.
	if knownEnded(g, versions) {
		d.leaveAlone(g, fmt.Sprintf("worker %s has ended; it was left behind", id))
		return
	}
	w, from, ok := d.recordOf(id, g, versions)
	if !ok {
		return
	}
	if d.ended[w.LeaseID] {
		d.leaveAlone(g, fmt.Sprintf("the lease of worker %s has ended; it was left behind", id))
		return
	}
	ports := portsOf(w)
	// Both live, and a port has one lease: the first keeps it.
	if other, conflict := d.holder(ports); conflict {
		d.leaveAlone(g, fmt.Sprintf("its port %d is leased to another running worker (lease %s)", w.Port, other))
		return
	}
	l, held := d.leaseOf(w.LeaseID)
	// Its main process lives, so a record of a quarantine is an older one.
	if !held || l.State == store.LeaseQuarantined && g.main != nil {
		l = store.Lease{LeaseID: w.LeaseID, Kind: store.LeaseWorker, State: store.LeaseHeld, AcquiredAt: w.StartedAt}
	}
	l.Port, l.Ports, l.WorkerID, l.Owner, l.Identity, l.Cgroup, l.StampUID = w.Port, leasePorts(ports), id, w.Name, w.Identity, w.Cgroup, w.StampUID
	d.give(ports, w.LeaseID)
	d.content.Leases = append(d.content.Leases, l)
	d.content.Workers = append(d.content.Workers, w)
	kept := Kept{WorkerID: id, Name: w.Name, Port: w.Port, From: from, Proof: g.proof()}
	if g.main != nil {
		kept.PID = g.main.PID
	}
	d.living = append(d.living, kept)
}

// knownEnded reports whether the file itself says now that the worker has ended,
// and not only that an earlier start of it has.
func knownEnded(g *group, versions []store.Version[store.Worker]) bool {
	if len(versions) == 0 || versions[0].Source > store.FromLost || !versions[0].Record.State.Ended() {
		return false
	}
	// A worker that is started again after its end has a new lease.
	lease := g.first().LeaseID
	return lease == "" || lease == versions[0].Record.LeaseID
}

// recordOf makes the record of a living worker: the best that there is, with the
// process as it is now.
func (d *decision) recordOf(id string, g *group, versions []store.Version[store.Worker]) (w store.Worker, from string, ok bool) {
	for _, v := range versions { // one that names this very process, before a newer or older one
		if g.main != nil && v.Record.Identity != nil && *v.Record.Identity == *g.main {
			d.news = d.news || v.Source != store.FromTree
			return revived(v.Record, g), v.Source.String(), true
		}
	}
	// Recorded with another process: it was restarted since.
	if len(versions) > 0 {
		v := versions[0]
		if g.main == nil {
			// What is left of a worker whose main process has ended: with its record hive
			// finds it, and keeps the port back as long as it is there.
			return v.Record, v.Source.String() + "; its main process has ended or cannot be verified", !v.Record.State.Ended()
		}
		d.news = true
		return revived(v.Record, g), v.Source.String() + ", its process as it is now", true
	}
	w, ok = d.fromProcesses(id, g)
	d.news = d.news || ok
	return w, "its processes", ok
}

// revived is a record with the process that lives.
func revived(w store.Worker, g *group) store.Worker {
	same := w.Identity != nil && *w.Identity == *g.main
	w.Identity = g.main
	first := g.first()
	w.LeaseID = cmp.Or(first.LeaseID, w.LeaseID)
	w.Cgroup = cmp.Or(first.Cgroup, w.Cgroup)
	w.StampUID = stampUID(first, w.StampUID)
	// The record is of another process, or of none: hive finds out how far this one is.
	if !same || w.State.Ended() || w.State == store.WorkerBackoff {
		lifecycle.Transition(&w, lifecycle.Salvaged, lifecycle.Fail)
		w.Reason, w.Desired = "", store.DesiredRunning
		w.Exit, w.EndedAt, w.ReadyAt, w.NextTry = nil, nil, nil, nil
	}
	return w
}

// stampUID is the user of a process whose stamps are proven, else what its record says.
func stampUID(l proc.Living, recorded *uint32) *uint32 {
	if l.Proven {
		return &l.UID
	}
	return recorded
}

// workerName is the form of a worker's id: type, port, and six characters.
var workerName = regexp.MustCompile(`^(.+)-([0-9]{1,5})-[a-z0-9]{6}$`)

// fromProcesses makes the record of a worker of which nothing is known but its
// processes. What it cannot know it leaves at what does no harm.
func (d *decision) fromProcesses(id string, g *group) (w store.Worker, ok bool) {
	m := workerName.FindStringSubmatch(id)
	first := g.first()
	if m == nil {
		d.leaveAlone(g, fmt.Sprintf("%q is not a worker id", id))
		return w, false
	}
	// Only the id says for which port the worker was started.
	port, err := strconv.ParseUint(m[2], 10, 16)
	if err != nil || port == 0 {
		d.leaveAlone(g, fmt.Sprintf("%q is not a worker id", id))
		return w, false
	}
	w = store.Worker{
		WorkerID: id, Type: m[1], Name: d.nameOf(g), Port: uint16(port), LeaseID: cmp.Or(first.LeaseID, "salvaged-"+id),
		Identity: g.main, Cgroup: first.Cgroup, Desired: store.DesiredRunning,
		Log: filepath.Join(d.logs, id+".log"), StartedAt: g.started,
		Spec: store.Spec{
			Argv: first.Argv, Dir: first.Dir, Host: "127.0.0.1",
			Stop:    store.Stop{Signals: []string{"SIGTERM"}, Grace: 10 * time.Second},
			Restart: store.Restart{Policy: store.RestartNever},
		},
	}
	lifecycle.Transition(&w, lifecycle.Salvaged, lifecycle.Fail)
	if w.StartedAt.IsZero() {
		w.StartedAt = d.now
	}
	if first.UID != proc.NoUser {
		w.StampUID = &first.UID
	}
	w.Ports = []uint16{w.Port}
	for next := w.Port + 1; slices.Contains(g.ports, next); next++ {
		w.Ports = append(w.Ports, next) // it may have leased several in a row
	}
	if len(w.Spec.Argv) == 0 {
		w.Spec.Argv = []string{first.Program}
	}
	return w, true
}

// nameOf is the name that a worker without a record was started with, as its processes say,
// the main one first: a program can have overwritten its environment, and its children not.
// Without the secret they may say anything, so the form is checked, and a name that another
// living worker has is that one's.
func (d *decision) nameOf(g *group) string {
	for _, l := range append([]proc.Living{g.first()}, g.found...) {
		if input.WorkerName(l.Name) == nil && !d.named[l.Name] {
			d.named[l.Name] = true
			return l.Name
		}
	}
	return ""
}

func (d *decision) leaveAlone(g *group, why string) {
	for _, l := range g.found {
		d.leftAlone = append(d.leftAlone, fmt.Sprintf("%s (pid %d): %s", l.Program, l.PID, why))
	}
}

// keepRecord keeps what is known of a worker of which no process lives.
func (d *decision) keepRecord(v store.Version[store.Worker]) {
	w := v.Record
	if w.State.Ended() {
		d.content.Workers = append(d.content.Workers, w)
		return
	}
	ports := portsOf(w)
	l, held := d.leaseOf(w.LeaseID)
	// Only if the damaged file says so now: by an old page the port may be another's since.
	if _, conflict := d.holder(ports); v.Source <= store.FromLost && !conflict && !d.ended[w.LeaseID] {
		if !held {
			l = store.Lease{LeaseID: w.LeaseID, Kind: store.LeaseWorker, State: store.LeaseHeld, AcquiredAt: w.StartedAt, Cgroup: w.Cgroup, Identity: w.Identity, StampUID: w.StampUID}
		}
		l.Port, l.Ports, l.WorkerID = w.Port, leasePorts(ports), w.WorkerID
		d.give(ports, w.LeaseID)
		d.content.Leases = append(d.content.Leases, l)
		d.content.Workers = append(d.content.Workers, w)
		d.toVerify = append(d.toVerify, fmt.Sprintf("%s (port %d, %s)", w.WorkerID, w.Port, v.Source))
		return
	}
	lifecycle.Transition(&w, lifecycle.Gone, lifecycle.Fail)
	// As failed it is still listed, and can be started again.
	w.Identity, w.Cgroup, w.NextTry = nil, "", nil
	w.Reason = "it was no longer running when the state file was salvaged"
	w.EndedAt = &d.now
	d.content.Workers = append(d.content.Workers, w)
	d.failed = append(d.failed, fmt.Sprintf("%s (port %d, %s)", w.WorkerID, w.Port, v.Source))
}

func portsOf(w store.Worker) []uint16 {
	ports := append([]uint16{w.Port}, w.Ports...)
	slices.Sort(ports)
	return slices.Compact(ports)
}

// leasePorts is how a lease writes its ports.
func leasePorts(ports []uint16) []uint16 {
	if len(ports) < 2 {
		return nil
	}
	return ports
}

// holder returns the lease that has one of the ports already.
func (d *decision) holder(ports []uint16) (string, bool) {
	for _, port := range ports {
		if lease, ok := d.taken[port]; ok {
			return lease, true
		}
	}
	return "", false
}

func (d *decision) give(ports []uint16, leaseID string) {
	for _, port := range ports {
		d.taken[port] = leaseID
	}
}

// leaseOf returns the best record of a lease.
func (d *decision) leaseOf(id string) (best store.Lease, ok bool) {
	i := slices.IndexFunc(d.found, func(l store.Lease) bool { return l.LeaseID == id })
	if i < 0 {
		return best, false
	}
	return d.found[i], true
}

// leasesOf are all that were found, best first.
func leasesOf(k *known) []store.Lease {
	file := slices.Clone(k.file.Leases)
	slices.SortStableFunc(file, func(a, b store.Version[store.Lease]) int { return cmp.Compare(a.Source, b.Source) })
	return records(file, k.backup.Leases, k.file.Whole["leases"])
}

// otherLeases keeps what is leased to programs that hive did not start, and ports
// that are kept back, if nobody who lives has them. They may have been released
// since: then they end by themselves, a port that is kept back when nobody is found
// on it, a lease for a time when it is not renewed.
func (d *decision) otherLeases() {
	for _, l := range d.found {
		if _, conflict := d.holder(l.All()); conflict || d.ended[l.LeaseID] {
			continue
		}
		switch {
		case l.State == store.LeaseQuarantined:
		case l.Kind == store.LeaseTTL:
		case l.Kind == store.LeaseProcess && l.Identity != nil:
			// Only a proof frees it: an unknown holder keeps its port.
			if verdict, _ := proc.Verify(*l.Identity); verdict == proc.Dead {
				continue
			}
		default:
			continue // of a worker that does not live
		}
		d.give(l.All(), l.LeaseID)
		d.content.Leases = append(d.content.Leases, l)
	}
}
