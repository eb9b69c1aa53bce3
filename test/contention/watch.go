package main

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

const (
	leasesInterval    = 100 * time.Millisecond
	processesInterval = time.Second
)

// leases is GET /v1/leases, recorded in the history port by port.
func (r *run) leases(ctx context.Context) ([]wire.Lease, error) {
	var page wire.Leases
	call := r.history.now()
	if err := r.call(ctx, http.MethodGet, "/v1/leases", nil, &page); err != nil {
		return nil, err
	}
	ret := r.history.now()
	has := map[uint16]wire.Lease{}
	for _, l := range page.Leases {
		if other, ok := has[l.Port]; ok {
			r.tally.Violation("DOUBLE", "port %d is listed for %s and for %s", l.Port, other.LeaseID, l.LeaseID)
		}
		has[l.Port] = l
	}
	for port := r.first(); port < r.first()+ports; port++ {
		r.history.saw(port, has[port].LeaseID, call, ret)
	}
	r.mu.Lock()
	r.recent = slices.Collect(maps.Keys(has))
	r.mu.Unlock()
	r.recordOrigins(ctx, page.Leases)
	return page.Leases, nil
}

func (r *run) first() uint16 { return uint16(r.hive.First) }

// origin is a lease that was observed, and the tag of the request that led to it,
// once it is known.
type origin struct {
	wire.Lease
	tag string
}

// recordOrigins keeps each lease that was observed, and finds out its tag. Of a worker's
// lease the worker's record has it: hive is asked for it soon, because it keeps only
// the last thousand that have ended, and again if there is none, because a worker is
// listed only when its program runs, a moment after its lease.
func (r *run) recordOrigins(ctx context.Context, list []wire.Lease) {
	r.mu.Lock()
	for _, l := range list {
		if r.origins[l.LeaseID] == nil {
			r.origins[l.LeaseID] = &origin{l, value(l.Owner)}
			if l.WorkerID != nil {
				r.unattributed = append(r.unattributed, r.origins[l.LeaseID])
			}
		}
	}
	unattributed := r.unattributed
	r.unattributed = nil
	r.mu.Unlock()
	unattributed = slices.DeleteFunc(unattributed, func(o *origin) bool {
		var rec wire.Worker
		if err := r.call(ctx, http.MethodGet, "/v1/workers/"+*o.WorkerID, nil, &rec); err != nil {
			return false
		}
		o.tag = value(rec.Model)
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unattributed = append(r.unattributed, unattributed...)
}

// value is what p points to, or empty.
func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// recentPorts returns the ports that were leased when last listed.
func (r *run) recentPorts() []uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.recent)
}

// watchLeases lists all leases again and again.
func (r *run) watchLeases(ctx context.Context) {
	for harness.Sleep(ctx, leasesInterval) {
		_, _ = r.leases(ctx) // hive is unavailable for a while
	}
}

// watchProcesses searches for two living workers on one port.
func (r *run) watchProcesses(ctx context.Context) {
	for harness.Sleep(ctx, processesInterval) {
		members, err := r.hive.Members()
		if err != nil {
			r.tally.Violation("WRONG", "read /proc: %v", err)
			return
		}
		on := map[int]harness.Member{}
		for _, m := range members {
			for _, port := range portsOf(m.Worker) {
				other, ok := on[port]
				// Both must live at one time, not just when each was found.
				if ok && other.Worker != m.Worker && harness.IsWorker(m.PID, m.Worker) && harness.IsWorker(other.PID, other.Worker) {
					r.tally.Violation("DOUBLE", "%s (pid %d) and %s (pid %d) live on port %d", m.Worker, m.PID, other.Worker, other.PID, port)
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
	i := slices.IndexFunc(workerTypes, func(s workerType) bool { return s.name == f[0] })
	if err != nil || i < 0 {
		return nil
	}
	for n := range workerTypes[i].ports {
		list = append(list, first+n)
	}
	return list
}
