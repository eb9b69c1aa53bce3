package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

// How often somebody looks.
const (
	leasesEvery    = 100 * time.Millisecond
	processesEvery = time.Second
)

// leases is GET /v1/leases, entered into the history port by port.
func (w *world) leases(ctx context.Context) ([]wire.Lease, error) {
	var page wire.Leases
	call := w.h.now()
	if err := w.call(ctx, http.MethodGet, "/v1/leases", nil, &page); err != nil {
		return nil, err
	}
	ret := w.h.now()
	has := map[uint16]wire.Lease{}
	for _, l := range page.Leases {
		if other, ok := has[l.Port]; ok {
			w.found("DOUBLE", "port %d is listed for %s and for %s", l.Port, other.LeaseID, l.LeaseID)
		}
		has[l.Port] = l
	}
	for port := w.first(); port < w.first()+ports; port++ {
		w.h.saw(port, has[port].LeaseID, call, ret)
	}
	w.remember(ctx, page.Leases)
	return page.Leases, nil
}

func (w *world) first() uint16 { return uint16(w.y.First) }

// origin is a lease that was listed, and the tag of the request that led to it,
// once it is known.
type origin struct {
	wire.Lease
	tag string
}

// remember keeps each lease that was listed, and finds out its tag. Of a worker's
// lease the worker knows it: it is asked soon, because hive keeps only the last
// thousand that have ended, and again if there is none, because a worker is shown
// only when its program runs, a moment after its lease.
func (w *world) remember(ctx context.Context, list []wire.Lease) {
	w.mu.Lock()
	w.lately = w.lately[:0]
	for _, l := range list {
		w.lately = append(w.lately, l.Port)
		if w.origins[l.LeaseID] == nil {
			w.origins[l.LeaseID] = &origin{l, value(l.Owner)}
			if l.WorkerID != nil {
				w.untold = append(w.untold, w.origins[l.LeaseID])
			}
		}
	}
	untold := w.untold
	w.untold = nil
	w.mu.Unlock()
	untold = slices.DeleteFunc(untold, func(o *origin) bool {
		var rec wire.Worker
		if err := w.call(ctx, http.MethodGet, "/v1/workers/"+*o.WorkerID, nil, &rec); err != nil {
			return false
		}
		o.tag = value(rec.Model)
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.untold = append(w.untold, untold...)
}

// value is what p points to, or empty.
func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// leasedLately returns the ports that were leased at the last look.
func (w *world) leasedLately() []uint16 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lately)
}

// watchLeases looks at all ports again and again.
func (w *world) watchLeases(ctx context.Context) {
	for wait(ctx, leasesEvery) {
		_, _ = w.leases(ctx) // hive is away for a while
	}
}

// watchProcesses looks for two living workers on one port.
func (w *world) watchProcesses(ctx context.Context) {
	for wait(ctx, processesEvery) {
		members, err := w.y.Members()
		if err != nil {
			w.found("WRONG", "read /proc: %v", err)
			return
		}
		on := map[int]yard.Member{}
		for _, m := range members {
			for _, port := range portsOf(m.Worker) {
				other, ok := on[port]
				// Both must live at one time, not just when each was looked at.
				if ok && other.Worker != m.Worker && yard.IsWorker(m.PID, m.Worker) && yard.IsWorker(other.PID, other.Worker) {
					w.found("DOUBLE", "%s (pid %d) and %s (pid %d) live on port %d", m.Worker, m.PID, other.Worker, other.PID, port)
				}
				on[port] = m
			}
		}
	}
}

// portsOf reads a worker's ports from its id, <type>-<port>-<6>.
func portsOf(worker string) (list []int) {
	f := strings.Split(worker, "-")
	if len(f) != 3 {
		return nil
	}
	first, err := strconv.Atoi(f[1])
	i := slices.IndexFunc(sorts, func(s sort) bool { return s.name == f[0] })
	if err != nil || i < 0 {
		return nil
	}
	for n := range sorts[i].ports {
		list = append(list, first+n)
	}
	return list
}

// usage is what a process has of the system.
type usage struct{ fds, threads int }

func usageOf(pid int) (u usage, err error) {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return usage{len(fds), len(tasks)}, err
}
