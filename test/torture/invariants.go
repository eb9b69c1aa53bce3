package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

// ground is the yard of one torment and what was found there.
type ground struct {
	*yard.Yard
	seen map[string]bool
}

// patience is for how long a contradiction may last: a gate whose hive was
// killed needs a moment to see end-of-file and exit, and hive goes on with
// interrupted stops while it is looked at.
const patience = 3 * time.Second

// check compares the processes with what hive says of them. Only what lasts counts.
func (g *ground) check(ctx context.Context, h *yard.Daemon, t *tally) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		found, err := g.look(ctx, h)
		if err != nil {
			return err
		}
		if len(found) > 0 && time.Now().Before(deadline) {
			continue
		}
		for _, f := range found {
			if g.seen[f.String()] {
				continue // each counts once
			}
			g.seen[f.String()] = true
			t.count(f)
			fmt.Println("torture:", f)
		}
		return nil
	}
}

// finding is one broken invariant.
type finding struct{ kind, what string }

func (f finding) String() string { return f.kind + ": " + f.what }

func (t *tally) count(f finding) {
	switch f.kind {
	case "ORPHAN":
		t.orphans++
	case "LEAK":
		t.leaked++
	case "DOUBLE":
		t.double++
	default:
		t.wrong++
	}
}

func (g *ground) look(ctx context.Context, h *yard.Daemon) ([]finding, error) {
	procs, err := g.Members()
	if err != nil {
		return nil, err
	}
	live, err := h.Live(ctx)
	if err != nil {
		return nil, err
	}
	leases, err := h.Leases(ctx)
	if err != nil {
		return nil, err
	}
	return append(orphans(procs, live), contradictions(procs, live, leases)...), nil
}

func orphans(procs []yard.Member, live map[string]wire.Worker) (found []finding) {
	holder := map[string]string{} // port -> worker
	for _, p := range procs {
		port := portOf(p.Worker)
		if other := holder[port]; other != "" && other != p.Worker {
			found = append(found, finding{"DOUBLE", fmt.Sprintf("%s and %s live on port %s", other, p.Worker, port)})
		}
		holder[port] = p.Worker
		if _, ok := live[p.Worker]; !ok {
			found = append(found, finding{"ORPHAN", fmt.Sprintf("pid %d of %s has no record", p.PID, p.Worker)})
		}
	}
	return found
}

func contradictions(procs []yard.Member, live map[string]wire.Worker, leases []wire.Lease) (found []finding) {
	running := map[string]int{}
	for _, p := range procs {
		running[p.Worker] = p.PID
	}
	leased := map[string]wire.Lease{}
	taken := map[uint16]bool{}
	for _, l := range leases {
		if taken[l.Port] {
			found = append(found, finding{"DOUBLE", fmt.Sprintf("two leases of port %d", l.Port)})
		}
		taken[l.Port] = true
		if l.WorkerID == nil || running[*l.WorkerID] == 0 {
			found = append(found, finding{"LEAK", fmt.Sprintf("port %d is leased (%s) and no process holds it", l.Port, l.State)})
			continue
		}
		leased[*l.WorkerID] = l
	}
	for id, w := range live {
		l, ok := leased[id]
		if !ok || l.Port != w.Port || w.PID == nil || l.PID == nil || *w.PID != *l.PID || *w.PID != running[id] {
			found = append(found, finding{"WRONG", fmt.Sprintf("worker %s is %s on port %d with process %d, and its lease does not agree: %+v", id, w.State, w.Port, running[id], l)})
		}
	}
	return found
}

func portOf(worker string) string {
	f := strings.Split(worker, "-")
	return f[len(f)-2]
}
