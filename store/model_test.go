//go:build linux

package store_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

// model is what the store must hold.
type model struct {
	leases     map[uint16]store.Lease
	tombstones map[string]int // lease id -> how many
	workers    map[string]store.Worker
	names      map[string]uint16
	jobs       map[string]store.Job
	events     map[uint64]store.Event
	byWorker   map[uint64]bool // events that are still in their worker's index
	seq        uint64
	pruned     uint64 // the highest number of a removed event
	cursor     uint16
	lives      map[string]int // of a worker: its id is never used again after it was deleted
}

func (m *model) workerID(id string) string { return fmt.Sprintf("%s.%d", id, m.lives[id]) }

func newModel() *model {
	return &model{
		leases: map[uint16]store.Lease{}, tombstones: map[string]int{}, workers: map[string]store.Worker{},
		names: map[string]uint16{}, jobs: map[string]store.Job{}, events: map[uint64]store.Event{}, byWorker: map[uint64]bool{},
		lives: map[string]int{},
	}
}

func (m *model) clone() *model {
	return &model{
		leases: maps.Clone(m.leases), tombstones: maps.Clone(m.tombstones), workers: maps.Clone(m.workers), names: maps.Clone(m.names),
		jobs: maps.Clone(m.jobs), events: maps.Clone(m.events), byWorker: maps.Clone(m.byWorker), seq: m.seq, pruned: m.pruned, cursor: m.cursor,
		lives: maps.Clone(m.lives),
	}
}

// step is one random write, made to the store and to the model. What the store
// answers must be what the model says.
func step(t *rapid.T, tx *store.Tx, m *model) {
	port := rapid.Uint16Range(8080, 8084).Draw(t, "port")
	id := rapid.SampledFrom([]string{"a", "b", "a-1"}).Draw(t, "id")
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0, 1:
		l := store.Lease{Port: port, LeaseID: id, Kind: store.LeaseProcess, State: store.LeaseHeld, AcquiredAt: tx.Now()}
		if pid := rapid.IntRange(0, 2).Draw(t, "pid"); pid > 0 {
			l.Identity = &store.Identity{PID: pid}
		}
		if rapid.Bool().Draw(t, "two ports") {
			l.Ports = []uint16{port, port + 1}
		}
		m.putLease(t, l, tx.PutLease(l))
	case 2:
		l, err := tx.EndLease(port, id)
		old, ok := m.leases[port]
		switch {
		case !ok:
			require.ErrorIs(t, err, store.ErrNotFound)
		case old.LeaseID != id:
			require.ErrorIs(t, err, store.ErrLeaseConflict)
		default:
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(old, l))
			for _, p := range old.All() {
				delete(m.leases, p)
				m.tombstones[id]++
			}
		}
	case 3:
		w := store.Worker{WorkerID: m.workerID(id), Port: port, State: store.WorkerFailed, Restarts: int(port)}
		require.NoError(t, tx.PutWorker(w))
		m.workers[w.WorkerID] = w
	case 4:
		require.NoError(t, tx.DeleteWorker(m.workerID(id)))
		m.deleteWorker(m.workerID(id))
		m.lives[id]++
	case 5:
		require.NoError(t, tx.SetNamedPort(id, port-8080))
		m.names[id] = port - 8080
		if port == 8080 {
			delete(m.names, id)
		}
		require.NoError(t, tx.SetCursor(port))
		m.cursor = port
	case 6:
		j := store.Job{JobID: id, Operation: fmt.Sprint(port), State: store.JobQueued, Request: []byte("{}")}
		require.NoError(t, tx.PutJob(j))
		m.jobs[id] = j
	case 7:
		require.NoError(t, tx.DeleteJob(id))
		delete(m.jobs, id)
		m.removeEvents(func(ev store.Event) bool { return ev.JobID == id })
	default:
		m.appendEvent(t, tx, id)
	}
}

// putLease is PutLease, which has answered with err. Either all ports of a lease
// are written or none.
func (m *model) putLease(t *rapid.T, l store.Lease, err error) {
	for _, port := range l.All() {
		old, ok := m.leases[port]
		switch {
		case ok && old.LeaseID != l.LeaseID:
			require.ErrorIs(t, err, store.ErrLeaseConflict)
			return
		case ok && !slices.Equal(old.All(), l.All()):
			require.ErrorIs(t, err, store.ErrInvalid)
			return
		}
	}
	require.NoError(t, err)
	for _, port := range l.All() {
		l.Port = port
		m.leases[port] = l
	}
}

func (m *model) deleteWorker(id string) {
	delete(m.workers, id)
	m.removeEvents(func(ev store.Event) bool { return ev.WorkerID == id && m.byWorker[ev.Seq] && ev.JobID == "" })
	for seq, ev := range m.events {
		if ev.WorkerID == id {
			delete(m.byWorker, seq)
		}
	}
}

func (m *model) removeEvents(which func(store.Event) bool) {
	for seq, ev := range m.events {
		if which(ev) {
			delete(m.events, seq)
			m.pruned = max(m.pruned, seq)
		}
	}
}

func (m *model) appendEvent(t *rapid.T, tx *store.Tx, id string) {
	ev := store.Event{Type: store.EventState, Message: "m"}
	who := rapid.IntRange(1, 3).Draw(t, "who")
	if who&1 != 0 {
		ev.JobID, ev.JobSeq = id, 1
		for _, old := range m.events {
			if old.JobID == id {
				ev.JobSeq++
			}
		}
	}
	if who&2 != 0 {
		ev.WorkerID = m.workerID(id)
	}
	got, err := tx.AppendEvent(ev)
	require.NoError(t, err)
	m.seq++
	ev.Seq, ev.At = m.seq, tx.Now()
	require.Equal(t, ev, got)
	m.events[ev.Seq] = ev
	m.byWorker[ev.Seq] = ev.WorkerID != ""
}

// compare holds everything the store says against the model.
func compare(t *rapid.T, tx *store.Tx, m *model) {
	leases := map[uint16]store.Lease{}
	ports := map[int][]uint16{}
	for l, err := range tx.Leases() {
		require.NoError(t, err)
		leases[l.Port] = l
		if l.Identity != nil {
			ports[l.Identity.PID] = append(ports[l.Identity.PID], l.Port)
		}
	}
	require.Empty(t, cmp.Diff(m.leases, leases))
	for pid := 1; pid <= 2; pid++ {
		got, err := tx.PortsOfPID(pid)
		require.NoError(t, err)
		require.Equal(t, ports[pid], got)
	}
	for _, id := range []string{"a", "b", "a-1"} {
		_, err := tx.Tombstone(id)
		require.Equal(t, m.tombstones[id] == 0, errors.Is(err, store.ErrNotFound))
		m.compareEvents(t, tx, id)
	}
	workers := map[string]store.Worker{}
	for w, err := range tx.Workers() {
		require.NoError(t, err)
		workers[w.WorkerID] = w
	}
	require.Empty(t, cmp.Diff(m.workers, workers))
	got := map[string]uint16{}
	for n, err := range tx.NamedPorts() {
		require.NoError(t, err)
		got[n.Name] = n.Port
	}
	require.Equal(t, m.names, got)
	jobs := map[string]store.Job{}
	for j, err := range tx.Jobs("", true) {
		require.NoError(t, err)
		jobs[j.JobID] = j
	}
	require.Empty(t, cmp.Diff(m.jobs, jobs))
	cursor, err := tx.Cursor()
	require.NoError(t, err)
	require.Equal(t, m.cursor, cursor)
}

func (m *model) compareEvents(t *rapid.T, tx *store.Tx, id string) {
	var all, job, worker []store.Event
	for _, seq := range slices.Sorted(maps.Keys(m.events)) {
		ev := m.events[seq]
		all = append(all, ev)
		if ev.JobID == id {
			job = append(job, ev)
		}
		if ev.WorkerID == m.workerID(id) && m.byWorker[seq] {
			worker = append(worker, ev)
		}
	}
	for _, c := range []struct {
		want []store.Event
		get  func() ([]store.Event, error)
	}{
		{all, func() ([]store.Event, error) { return tx.Events(0, 10000) }},
		{job, func() ([]store.Event, error) { return tx.JobEvents(id, 0, 10000) }},
		{worker, func() ([]store.Event, error) { return tx.WorkerEvents(m.workerID(id), 0, 10000) }},
	} {
		got, err := c.get()
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(c.want, got))
	}
	for i, ev := range job {
		require.EqualValues(t, i+1, ev.JobSeq)
		seq, err := tx.JobEventSeq(id, ev.JobSeq)
		require.NoError(t, err)
		require.Equal(t, ev.Seq, seq)
	}
	bounds, err := tx.EventBounds()
	require.NoError(t, err)
	require.Equal(t, store.EventBounds{Newest: m.seq, Pruned: m.pruned}, bounds)
}

// Random writes against a model: in one transaction or several, some of them
// undone by an error or a panic, with the file closed and opened in between.
func TestStoreAgainstModel(t *testing.T) {
	dir := t.TempDir()
	// Every step is a commit on a real disk; -rapid.checks asks for more.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set("20"))
	}
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(dir, "hive.db")
		require.NoError(rt, removeIfThere(path))
		s, err := store.Open(t.Context(), store.Options{Path: path})
		require.NoError(rt, err)
		defer func() { require.NoError(rt, s.Close()) }()
		m := newModel()
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) { transact(t, rt, s, m, "return") },
			"more":  func(rt *rapid.T) { transact(t, rt, s, m, "return") },
			"fail":  func(rt *rapid.T) { transact(t, rt, s, m, "error") },
			"panic": func(rt *rapid.T) { transact(t, rt, s, m, "panic") },
			"reopen": func(rt *rapid.T) {
				require.NoError(rt, s.Close())
				storetest.Check(t, path)
				s, err = store.Open(t.Context(), store.Options{Path: path})
				require.NoError(rt, err)
			},
			"": func(rt *rapid.T) {
				require.NoError(rt, s.View(func(tx *store.Tx) error { compare(rt, tx, m); return nil }))
			},
		})
		require.NoError(rt, s.Check(t.Context()))
	})
}

// transact makes some steps in one transaction that ends as told; unless it
// returns nil the model stays as it was.
func transact(t *testing.T, rt *rapid.T, s *store.Store, m *model, end string) {
	next := m.clone()
	run := func() error {
		return s.Update(t.Context(), func(tx *store.Tx) error {
			for range rapid.IntRange(1, 6).Draw(rt, "steps") {
				step(rt, tx, next)
			}
			compare(rt, tx, next) // a transaction sees its own writes
			switch end {
			case "error":
				return errRefused
			case "panic":
				panic(errRefused)
			}
			return nil
		})
	}
	switch end {
	case "error":
		require.Equal(rt, errRefused, run())
	case "panic":
		require.PanicsWithValue(rt, errRefused, func() { _ = run() })
	default:
		require.NoError(rt, run())
		*m = *next
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
