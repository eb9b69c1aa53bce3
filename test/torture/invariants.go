package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// startAndCheck starts hive and checks the invariants.
func (r *run) startAndCheck(ctx context.Context) error {
	if err := r.hive.Start(ctx); err != nil {
		return err
	}
	info, err := r.hive.Info(ctx)
	if err != nil {
		return err
	}
	r.tally.Add("adopted", info.Recovery.Adopted)
	return r.check(ctx)
}

// check compares the processes with what hive says of them. Only what lasts counts.
func (r *run) check(ctx context.Context) error {
	var broken []violation
	err := harness.Eventually(ctx, contradictionTimeout, func() (objection string, err error) {
		if broken, err = r.compare(ctx); len(broken) > 0 {
			objection = broken[0].text
		}
		return objection, err
	})
	if !errors.Is(err, harness.ErrTimeout) {
		return err
	}
	for _, v := range broken {
		r.tally.Violation(v.kind, "%s", v.text)
	}
	return nil
}

// violation is one broken invariant.
type violation struct{ kind, text string }

func (r *run) compare(ctx context.Context) ([]violation, error) {
	procs, err := r.hive.Members()
	if err != nil {
		return nil, err
	}
	live, err := r.hive.Live(ctx)
	if err != nil {
		return nil, err
	}
	leases, err := r.hive.Leases(ctx)
	if err != nil {
		return nil, err
	}
	return append(orphans(procs, live), contradictions(procs, live, leases)...), nil
}

func orphans(procs []harness.Member, live map[string]wire.Worker) (broken []violation) {
	holder := map[string]string{} // port -> worker
	for _, p := range procs {
		port := portOf(p.Worker)
		if other := holder[port]; other != "" && other != p.Worker {
			broken = append(broken, violation{"DOUBLE", fmt.Sprintf("%s and %s live on port %s", other, p.Worker, port)})
		}
		holder[port] = p.Worker
		if _, ok := live[p.Worker]; !ok {
			broken = append(broken, violation{"ORPHAN", fmt.Sprintf("pid %d of %s has no record", p.PID, p.Worker)})
		}
	}
	return broken
}

func contradictions(procs []harness.Member, live map[string]wire.Worker, leases []wire.Lease) (broken []violation) {
	running := map[string]int{}
	for _, p := range procs {
		running[p.Worker] = p.PID
	}
	leased := map[string]wire.Lease{}
	taken := map[uint16]bool{}
	for _, l := range leases {
		if taken[l.Port] {
			broken = append(broken, violation{"DOUBLE", fmt.Sprintf("two leases of port %d", l.Port)})
		}
		taken[l.Port] = true
		if l.WorkerID == nil || running[*l.WorkerID] == 0 {
			broken = append(broken, violation{"LEAK", fmt.Sprintf("port %d is leased (%s) and no process holds it", l.Port, l.State)})
			continue
		}
		leased[*l.WorkerID] = l
	}
	for id, w := range live {
		l, ok := leased[id]
		if !ok || l.Port != w.Port || w.PID == nil || l.PID == nil || *w.PID != *l.PID || *w.PID != running[id] {
			broken = append(broken, violation{"WRONG", fmt.Sprintf("worker %s is %s on port %d with process %d, and its lease does not agree: %+v", id, w.State, w.Port, running[id], l)})
		}
	}
	return broken
}

// portOf reads the port from a worker's id, <type>-<port>-<6>.
func portOf(worker string) string {
	f := strings.Split(worker, "-")
	return f[len(f)-2]
}
