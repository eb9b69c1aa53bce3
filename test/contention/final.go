package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// finalTimeout is how long hive may take at the end until nothing is left: the longest
// ttl, two audits after it for what is quarantined, and a margin for a busy machine.
const finalTimeout = 20 * time.Second

// growth is what hive may have more at the end than at the start: the pools of its
// runtime grow with what was done at once, not with what was done.
var growth = harness.Usage{FDs: 4, Threads: 24, Goroutines: 8}

// finalChecks ends everything that is left, by request, and checks that nothing is
// left then, and that the history of every port is possible.
func (r *run) finalChecks(ctx context.Context, before harness.Usage) error {
	r.history.allMayEnd()
	for _, p := range slices.Collect(maps.Values(r.holders)) {
		r.killHolder(p)
	}
	if _, err := r.hive.StopAll(ctx, finalTimeout); err != nil {
		return err
	}
	r.leak(r.hive.FinalChecks(ctx, finalTimeout, r.noLease, r.noOrphan))
	r.everyPortWorks(ctx)
	r.attributeObserved()
	r.leak(r.hive.FinalChecks(ctx, finalTimeout, r.allPortsFree, r.hive.UsesAtMost(before, growth)))
	after, err := r.hive.Usage(ctx)
	if err != nil {
		return err
	}
	r.p.Printf("hive has %s; at the start it had %s", after, before)
	if err := r.hive.Term(); err != nil {
		return err
	}
	if err := r.readOutput(); err != nil {
		return err
	}
	return r.checkHistory()
}

func (r *run) leak(err error) {
	if err != nil {
		r.tally.Violation("LEAK", "%v", err)
	}
}

// noLease is the harness's check, whose observations are recorded in the history.
func (r *run) noLease(ctx context.Context) (string, error) {
	list, err := r.leases(ctx)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return fmt.Sprintf("%d leases are left, one of them %s", len(list), text(list[0])), nil
}

// noOrphan checks that the sweep has run and found no process without a record.
func (r *run) noOrphan(ctx context.Context) (string, error) {
	info, err := r.hive.Info(ctx)
	switch n := info.Recovery.Orphans; {
	case err != nil:
		return "", err
	case n == nil:
		return "the sweep for processes without a record has not run", nil
	case *n > 0:
		return fmt.Sprintf("the sweep has found %d processes without a record", *n), nil
	}
	return "", nil
}

func (r *run) allPortsFree(ctx context.Context) (string, error) {
	var p wire.Ports
	if err := r.call(ctx, http.MethodGet, "/v1/ports", nil, &p); err != nil || p.Total == ports && p.Free == ports {
		return "", err
	}
	return "ports are not free: " + text(p), nil
}

// everyPortWorks leases every port by its number and releases it.
func (r *run) everyPortWorks(ctx context.Context) {
	for port := r.first(); port < r.first()+ports; port++ {
		var l wire.Lease
		tag := fmt.Sprintf("final-%d", port)
		call := r.history.ask(tag)
		err := r.call(ctx, http.MethodPost, "/v1/leases", wire.AcquireLease{TTL: "1m", Port: port, Owner: tag}, &l)
		if err != nil {
			r.tally.Violation("LEAK", "nobody has port %d any more, and it cannot be leased: %v", port, err)
			continue
		}
		r.record(l.LeaseID, tag, l.Ports, call, r.history.now(), call+moment(time.Minute))
		call = r.history.now()
		if err := r.call(ctx, http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", port, l.LeaseID), nil, nil); err != nil {
			r.tally.Violation("LEAK", "port %d cannot be released: %v", port, err)
			continue
		}
		r.history.ended(l.LeaseID, call, r.history.now())
	}
}

// text is a record as hive has sent it.
func text(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// attributeObserved finds the requests of leases that were observed and that no
// response had named: what hive was doing when it was killed.
func (r *run) attributeObserved() {
	for lease, by := range r.history.unknown() {
		r.mu.Lock()
		o := r.origins[lease]
		r.mu.Unlock()
		if o == nil || !r.history.attribute(lease, o.Ports, o.tag, by) {
			r.tally.Violation("WRONG", "nobody has asked for lease %s %s", lease, text(o))
			continue
		}
		r.tally.Add("leases only observed", 1)
	}
}

// readOutput searches for what hive itself has called an error.
func (r *run) readOutput() error {
	raw, err := os.ReadFile(r.hive.Output())
	for line := range bytes.Lines(raw) {
		for _, bad := range []string{"level=error", "level=fatal", "panic: ", "DATA RACE"} {
			if bytes.Contains(line, []byte(bad)) {
				r.tally.Violation("WRONG", "hive has printed: %s", bytes.TrimSpace(line))
			}
		}
	}
	return err
}

// checkHistory searches for an order of operations on each port, and shows that there is
// none with a forged lease.
func (r *run) checkHistory() error {
	begin := time.Now()
	n, wrong := r.history.check()
	for _, port := range wrong {
		r.tally.Violation("NOT LINEARIZABLE", "%s", port)
	}
	missed, tried := r.history.forge()
	r.p.Printf("%d operations on %d ports were checked, and %d histories with a forged second lease, in %s",
		n, ports, tried, time.Since(begin).Round(time.Millisecond))
	r.p.Printf("%s", r.tally)
	if missed > 0 || tried == 0 {
		return fmt.Errorf("%d of %d forged histories were taken for possible: this test proves nothing", missed, tried)
	}
	return nil
}
