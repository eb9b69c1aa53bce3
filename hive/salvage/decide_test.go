package salvage_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
	"rbeehive/hive/salvage"
	"rbeehive/store"
)

// The decisions are tried on what no run of a hive brings about at will: records
// of the past that contradict what lives now.

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func identity(pid int) *store.Identity {
	return &store.Identity{BootID: "boot", PID: pid, StartTicks: uint64(pid)}
}

// worker is a running worker with its lease, as one source has it.
func worker(id string, port uint16, pid int, source store.Source) (store.Version[store.Worker], store.Version[store.Lease]) {
	w := store.Worker{
		WorkerID: id, Name: "name of " + id, Type: "cpu", Port: port, Ports: []uint16{port}, LeaseID: "lease of " + id, Identity: identity(pid),
		State: store.WorkerReady, Desired: store.DesiredRunning, StartedAt: now().Add(-time.Hour),
	}
	l := store.Lease{Port: port, LeaseID: w.LeaseID, Kind: store.LeaseWorker, WorkerID: id, Identity: w.Identity, State: store.LeaseHeld}
	return store.Version[store.Worker]{Record: w, Source: source}, store.Version[store.Lease]{Record: l, Source: source}
}

func alive(id string, pid int, ports ...uint16) salvage.Alive {
	return salvage.Alive{
		Main: identity(pid), Ports: ports,
		Found: []proc.Living{{PID: pid, Start: uint64(pid), Leader: true, WorkerID: id, StateID: "s", LeaseID: "lease of " + id, Argv: []string{"/bin/server"}, Program: "server"}},
	}
}

// file is a damaged file with these workers and leases.
func file(add func(*store.Gathered)) *store.Gathered {
	g := &store.Gathered{Whole: map[string]bool{}}
	add(g)
	return g
}

func put(g *store.Gathered, id string, port uint16, pid int, source store.Source) {
	w, l := worker(id, port, pid, source)
	g.Workers, g.Leases = append(g.Workers, w), append(g.Leases, l)
}

func leaseIDs(c store.Content) map[uint16]string {
	m := map[uint16]string{}
	for _, l := range c.Leases {
		m[l.Port] = l.LeaseID
	}
	return m
}

func state(t *testing.T, c store.Content, id string) store.WorkerState {
	t.Helper()
	for _, w := range c.Workers {
		if w.WorkerID == id {
			return w.State
		}
	}
	t.Fatalf("%s has no record", id)
	return ""
}

// A lease of a dead worker on a freed page, or in the backup, must not take the
// port of a living one, whichever way they are found.
func TestADeadWorkersLeaseOfThePastYields(t *testing.T) {
	for _, source := range []store.Source{store.FromFreed, store.FromBackup} {
		g := file(func(g *store.Gathered) { put(g, "cpu-8080-aaaaaa", 8080, 11, source) })
		d := salvage.Decide(g, &store.Gathered{}, map[string]salvage.Alive{"cpu-8080-bbbbbb": alive("cpu-8080-bbbbbb", 12, 8080)}, now())
		require.Equal(t, map[uint16]string{8080: "lease of cpu-8080-bbbbbb"}, leaseIDs(d.Content))
		require.Equal(t, store.WorkerFailed, state(t, d.Content, "cpu-8080-aaaaaa"))
		require.Len(t, d.Failed, 1)
	}
}

// Even a record of the file itself yields: a living process stands for itself.
func TestADeadWorkersLeaseOfNowYieldsToo(t *testing.T) {
	g := file(func(g *store.Gathered) { put(g, "cpu-8080-aaaaaa", 8080, 11, store.FromTree) })
	d := salvage.Decide(g, &store.Gathered{}, map[string]salvage.Alive{"cpu-8080-bbbbbb": alive("cpu-8080-bbbbbb", 12, 8080)}, now())
	require.Equal(t, map[uint16]string{8080: "lease of cpu-8080-bbbbbb"}, leaseIDs(d.Content))
}

// What the file has now and nobody contradicts is for hive to verify; what it had is over.
func TestWhatIsNotSeenToLive(t *testing.T) {
	g := file(func(g *store.Gathered) {
		put(g, "cpu-8080-aaaaaa", 8080, 11, store.FromTree)
		put(g, "cpu-8081-aaaaaa", 8081, 12, store.FromLost)
		put(g, "cpu-8082-aaaaaa", 8082, 13, store.FromFreed)
	})
	d := salvage.Decide(g, &store.Gathered{}, nil, now())
	require.Equal(t, map[uint16]string{8080: "lease of cpu-8080-aaaaaa", 8081: "lease of cpu-8081-aaaaaa"}, leaseIDs(d.Content))
	require.Len(t, d.Judged, 2)
	require.Equal(t, store.WorkerFailed, state(t, d.Content, "cpu-8082-aaaaaa"))
}

// Of several versions the one that names the living process counts, else the
// latest, with the process as it is.
func TestVersionsOfALivingWorker(t *testing.T) {
	g := file(func(g *store.Gathered) {
		put(g, "cpu-8080-aaaaaa", 8080, 11, store.FromFreed)
		put(g, "cpu-8080-aaaaaa", 8080, 12, store.FromFreed)
		g.Workers[0].Record.Restarts, g.Workers[1].Record.Restarts = 3, 4
		put(g, "cpu-8081-aaaaaa", 8081, 21, store.FromFreed)
		put(g, "cpu-8081-aaaaaa", 8081, 22, store.FromFreed)
		g.Workers[3].Record.StartedAt = now()
		g.Workers[3].Record.State = store.WorkerBackoff
	})
	d := salvage.Decide(g, &store.Gathered{}, map[string]salvage.Alive{
		"cpu-8080-aaaaaa": alive("cpu-8080-aaaaaa", 11), "cpu-8081-aaaaaa": alive("cpu-8081-aaaaaa", 23),
	}, now())
	require.Len(t, d.Content.Workers, 2)
	first, second := d.Content.Workers[0], d.Content.Workers[1]
	require.Equal(t, 3, first.Restarts)
	require.Equal(t, 11, first.Identity.PID)
	require.Equal(t, store.WorkerReady, first.State)
	require.Equal(t, 23, second.Identity.PID)
	require.Equal(t, now(), second.StartedAt)
	require.Equal(t, store.WorkerRunning, second.State, "it lives, whatever it did when the record was written")
	require.Equal(t, second.Identity, d.Content.Leases[1].Identity)
}

func TestAWorkerOfWhichOnlyTheProcessesTell(t *testing.T) {
	d := salvage.Decide(file(func(*store.Gathered) {}), &store.Gathered{}, map[string]salvage.Alive{
		"llama-server-8080-abc123": alive("llama-server-8080-abc123", 11, 8080, 8081, 9000), "odd": alive("odd", 12),
	}, now())
	require.Len(t, d.Content.Workers, 1)
	w := d.Content.Workers[0]
	require.Equal(t, "llama-server", w.Type)
	require.Equal(t, []uint16{8080, 8081}, w.Ports, "those in a row may be its; 9000 is not")
	require.Equal(t, "lease of llama-server-8080-abc123", w.LeaseID)
	require.Equal(t, "/data/logs/llama-server-8080-abc123.log", w.Log)
	require.Equal(t, store.RestartNever, w.Spec.Restart.Policy)
	require.Equal(t, []uint16{8080, 8081}, d.Content.Leases[0].All())
	require.Equal(t, []string{`server (pid 12): "odd" is not a worker id`}, d.Apart)
	require.Contains(t, d.Lost[0], "of 1 worker, known only from their processes")
}

// Two living processes that both say that a port is theirs: one gets it, the other is
// named and left alone.
func TestTwoLivingWorkersOnOnePort(t *testing.T) {
	d := salvage.Decide(file(func(*store.Gathered) {}), &store.Gathered{}, map[string]salvage.Alive{
		"cpu-8080-aaaaaa": alive("cpu-8080-aaaaaa", 11, 8080), "cpu-8080-bbbbbb": alive("cpu-8080-bbbbbb", 12),
	}, now())
	require.Equal(t, map[uint16]string{8080: "lease of cpu-8080-aaaaaa"}, leaseIDs(d.Content))
	require.Len(t, d.Apart, 1)
	require.Contains(t, d.Apart[0], "pid 12")
}

// Processes of a lease that has ended were left behind on purpose.
func TestWhatAnEndedLeaseLeftBehind(t *testing.T) {
	g := file(func(g *store.Gathered) {
		put(g, "cpu-8080-aaaaaa", 8080, 11, store.FromFreed)
		stone := store.Tombstone{Lease: g.Leases[0].Record, EndedAt: now().Add(-time.Minute)}
		g.Tombstones = append(g.Tombstones, store.Version[store.Tombstone]{Record: stone, Source: store.FromFreed})
		put(g, "cpu-8081-aaaaaa", 8081, 12, store.FromTree)
		g.Workers[1].Record.State, g.Leases[1].Record.State = store.WorkerStopped, store.LeaseQuarantined
		g.Leases[1].Record.Identity = nil
	})
	d := salvage.Decide(g, &store.Gathered{}, map[string]salvage.Alive{
		"cpu-8080-aaaaaa": alive("cpu-8080-aaaaaa", 11, 8080), "cpu-8081-aaaaaa": alive("cpu-8081-aaaaaa", 12, 8081),
	}, now())
	require.Empty(t, d.Living)
	require.Len(t, d.Apart, 2)
	require.Equal(t, map[uint16]string{8081: "lease of cpu-8081-aaaaaa"}, leaseIDs(d.Content), "its port stays kept back")
	require.Equal(t, store.WorkerStopped, state(t, d.Content, "cpu-8081-aaaaaa"))
}

func TestLeasesOfOtherPrograms(t *testing.T) {
	lease := func(id string, port uint16, kind store.LeaseKind, source store.Source) store.Version[store.Lease] {
		return store.Version[store.Lease]{Record: store.Lease{Port: port, LeaseID: id, Kind: kind, State: store.LeaseHeld, TTL: time.Hour}, Source: source}
	}
	g := file(func(g *store.Gathered) {
		gone := lease("gone", 8082, store.LeaseProcess, store.FromTree)
		gone.Record.Identity = &store.Identity{BootID: "another boot", PID: 7}
		g.Leases = append(g.Leases,
			lease("past", 8080, store.LeaseTTL, store.FromFreed), lease("now", 8080, store.LeaseTTL, store.FromTree),
			lease("taken", 8081, store.LeaseTTL, store.FromTree), gone, lease("worker's", 8083, store.LeaseWorker, store.FromFreed))
	})
	d := salvage.Decide(g, &store.Gathered{}, map[string]salvage.Alive{"cpu-8081-aaaaaa": alive("cpu-8081-aaaaaa", 11, 8081)}, now())
	require.Equal(t, map[uint16]string{8080: "now", 8081: "lease of cpu-8081-aaaaaa"}, leaseIDs(d.Content))
}

// Nothing begins by itself after a salvage.
func TestJobsThatHadNotEnded(t *testing.T) {
	g := file(func(g *store.Gathered) {
		for _, j := range []store.Job{
			{JobID: "job-1", Operation: "worker_spawn", State: store.JobQueued},
			{JobID: "job-1", Operation: "worker_spawn", State: store.JobSucceeded},
			{JobID: "job-2", Operation: "worker_spawn", State: store.JobRunning, Key: "k"},
			{JobID: "job-2", Operation: "worker_spawn", State: store.JobQueued, Key: "k"},
		} {
			g.Jobs = append(g.Jobs, store.Version[store.Job]{Record: j, Source: store.FromFreed})
		}
		for _, k := range []store.KeyedJob{{Key: "k", Keyed: store.Keyed{JobID: "job-2"}}, {Key: "other", Keyed: store.Keyed{JobID: "job-1"}}} {
			g.Keys = append(g.Keys, store.Version[store.KeyedJob]{Record: k, Source: store.FromFreed})
		}
		g.Sequence = 50
	})
	d := salvage.Decide(g, &store.Gathered{}, nil, now())
	require.Len(t, d.Content.Jobs, 2)
	require.Equal(t, store.JobSucceeded, d.Content.Jobs[0].State)
	require.Equal(t, store.JobFailed, d.Content.Jobs[1].State)
	require.Equal(t, "interrupted", d.Content.Jobs[1].Error.Code)
	require.Len(t, d.Content.Keys, 1, "a key whose job does not say so is dropped")
	require.Contains(t, d.Lost, "1 job that had not ended: failed, interrupted")
	end := d.Content.Events[0]
	require.Equal(t, store.EventEnd, end.Type)
	require.Equal(t, "job-2", end.JobID)
	require.EqualValues(t, 1051, end.Seq, "numbers that may have been lost are not used again")
}

// A worker that no record tells of has the name that its processes say, unless that is no
// name or another living worker's.
func TestTheNameOfAWorkerWithoutARecord(t *testing.T) {
	says := func(id string, pid int, port uint16, names ...string) salvage.Alive {
		a := alive(id, pid, port)
		a.Found[0].Name = names[0]
		for i, name := range names[1:] {
			child := a.Found[0]
			child.PID, child.Leader, child.Name = pid+100+i, false, name
			a.Found = append([]proc.Living{child}, a.Found...)
		}
		return a
	}
	g := file(func(g *store.Gathered) { put(g, "cpu-8080-aaaaaa", 8080, 11, store.FromTree) })
	g.Workers[0].Record.Name = "kept"
	d := salvage.Decide(g, &store.Gathered{}, map[string]salvage.Alive{
		"cpu-8080-aaaaaa": alive("cpu-8080-aaaaaa", 11, 8080),
		"cpu-8081-bbbbbb": says("cpu-8081-bbbbbb", 12, 8081, "chat"),
		"cpu-8082-cccccc": says("cpu-8082-cccccc", 13, 8082, "chat"),
		"cpu-8083-dddddd": says("cpu-8083-dddddd", 14, 8083, "kept"),
		"cpu-8084-eeeeee": says("cpu-8084-eeeeee", 15, 8084, "no\x1b[name"),
		"cpu-8085-ffffff": says("cpu-8085-ffffff", 16, 8085, "", "child"),
		"cpu-8086-gggggg": says("cpu-8086-gggggg", 17, 8086, "main", "other"),
	}, now())
	names := map[uint16]string{}
	for _, w := range d.Content.Workers {
		names[w.Port] = w.Name
	}
	require.Equal(t, map[uint16]string{8080: "kept", 8081: "chat", 8082: "", 8083: "", 8084: "", 8085: "child", 8086: "main"}, names)
	ports := map[string]uint16{}
	for _, n := range d.Content.Names {
		ports[n.Name] = n.Port
	}
	require.Equal(t, map[string]uint16{"kept": 8080, "chat": 8081, "child": 8085, "main": 8086}, ports)
}
