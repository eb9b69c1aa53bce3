package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

// How long hive may take at the end until nothing is left: the longest ttl, two
// audits after it for what is quarantined, and a margin for a busy machine.
const finaleLimit = 20 * time.Second

// Descriptors and threads that hive may have more at the end than at the start:
// the pools of its runtime grow with what was done at once, not with what was done.
const (
	moreFDs     = 4
	moreThreads = 24
)

// finale ends everything that is left, by request, and checks that nothing is
// left then, and that the history of every port is possible.
func (w *world) finale(ctx context.Context, h *yard.Daemon, before usage) error {
	w.h.allMayEnd()
	for _, p := range slices.Collect(maps.Values(w.holders)) {
		w.killHolder(p)
	}
	if err := w.stopAll(ctx, h); err != nil {
		return err
	}
	w.nothingLeft(ctx, h)
	w.everyPortWorks(ctx)
	w.attributeSeen()
	w.givenBack(ctx, h, before)
	if err := h.Term(); err != nil {
		return err
	}
	w.readOutput()
	begun := time.Now()
	n, wrong := w.h.check()
	for _, what := range wrong {
		w.found("NOT LINEARIZABLE", "%s", what)
	}
	w.checked = n
	missed, tried := w.h.forge()
	fmt.Printf("contention: the histories were checked in %s; a second lease was forged into %d of them\n", time.Since(begun).Round(time.Millisecond), tried)
	if missed > 0 || tried == 0 {
		return fmt.Errorf("%d of %d forged histories were taken for possible: this test proves nothing", missed, tried)
	}
	return nil
}

// stopAll stops every worker, also those of jobs that are still under way.
func (w *world) stopAll(ctx context.Context, h *yard.Daemon) error {
	return w.eventually(ctx, "all workers are stopped and all jobs have ended", func() (string, error) {
		var busy string
		for _, state := range []string{"queued", "running"} {
			var page wire.Jobs
			if err := w.call(ctx, http.MethodGet, "/v1/jobs?state="+state, nil, &page); err != nil {
				return "", err
			}
			if len(page.Jobs) > 0 {
				busy = fmt.Sprintf("%d jobs are %s", len(page.Jobs), state)
			}
		}
		live, err := h.Live(ctx)
		for id := range live {
			if _, err := w.do(ctx, map[string]any{"operation": "worker_stop", "worker_id": id}); err != nil {
				return "", err
			}
			busy = id + " lived"
		}
		return busy, err
	})
}

// eventually waits until nothing is in the way any more.
func (w *world) eventually(ctx context.Context, what string, inTheWay func() (string, error)) error {
	for deadline := time.Now().Add(finaleLimit); ; {
		is, err := inTheWay()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case is == "":
			return nil
		case time.Now().After(deadline):
			w.found("LEAK", "after %s not yet: %s: %s", finaleLimit, what, is)
			return nil
		case !wait(ctx, 50*time.Millisecond):
			return ctx.Err()
		}
	}
}

func (w *world) must(err error) {
	if err != nil {
		w.found("WRONG", "%v", err)
	}
}

// nothingLeft waits until no lease and no process is left.
func (w *world) nothingLeft(ctx context.Context, h *yard.Daemon) {
	w.must(w.eventually(ctx, "no lease is left", func() (string, error) {
		list, err := w.leases(ctx)
		if err != nil || len(list) == 0 {
			return "", err
		}
		l := list[0]
		return fmt.Sprintf("%d, the first: %s", len(list), text(l)), nil
	}))
	w.must(w.eventually(ctx, "no process of a worker is left", func() (string, error) {
		members, err := w.y.Members()
		if err != nil || len(members) == 0 {
			return "", err
		}
		return fmt.Sprintf("%d, the first: %+v", len(members), members[0]), nil
	}))
	w.must(w.eventually(ctx, "no process without a record was found by the sweep", func() (string, error) {
		info, err := h.Info(ctx)
		if err != nil {
			return "", err
		}
		switch n := info.Recovery.Orphans; {
		case n == nil:
			return "it has not run", nil
		case *n > 0:
			return fmt.Sprintf("it has found %d", *n), nil
		}
		return "", nil
	}))
}

// everyPortWorks leases every port by its number and releases it. Then hive must
// count all of them as free.
func (w *world) everyPortWorks(ctx context.Context) {
	for port := w.first(); port < w.first()+ports; port++ {
		var l wire.Lease
		tag := fmt.Sprintf("finale-%d", port)
		call := w.h.ask(tag)
		err := w.call(ctx, http.MethodPost, "/v1/leases", wire.AcquireLease{TTL: "1m", Port: port, Owner: tag}, &l)
		if err != nil {
			w.found("LEAK", "nobody has port %d any more, and it cannot be leased: %v", port, err)
			continue
		}
		w.enter(l.LeaseID, tag, l.Ports, call, w.h.now(), call+moment(time.Minute))
		call = w.h.now()
		if err := w.call(ctx, http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", port, l.LeaseID), nil, nil); err != nil {
			w.found("LEAK", "port %d cannot be released: %v", port, err)
			continue
		}
		w.h.ended(l.LeaseID, call, w.h.now())
	}
	w.must(w.eventually(ctx, "all ports are free", func() (string, error) {
		var p wire.Ports
		if err := w.call(ctx, http.MethodGet, "/v1/ports", nil, &p); err != nil {
			return "", err
		}
		if p.Total == ports && p.Free == ports {
			return "", nil
		}
		return text(p), nil
	}))
}

// text is a record as hive has sent it.
func text(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// attributeSeen finds the requests of leases that were seen and that no answer
// had told of: what hive was doing when it was killed.
func (w *world) attributeSeen() {
	for lease, by := range w.h.unknown() {
		w.mu.Lock()
		o := w.origins[lease]
		w.mu.Unlock()
		if o == nil || !w.h.attribute(lease, o.Ports, o.tag, by) {
			w.found("WRONG", "nobody has asked for lease %s %s", lease, text(o))
			continue
		}
		w.tally.add("leases only seen", 1)
	}
}

// givenBack compares what hive has of the system with what it had at its start.
func (w *world) givenBack(ctx context.Context, h *yard.Daemon, before usage) {
	w.http.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections() // the yard's
	var now usage
	w.must(w.eventually(ctx, "descriptors and threads are given back", func() (is string, err error) {
		if now, err = usageOf(h.PID()); err != nil {
			return "", err
		}
		if now.fds > before.fds+moreFDs || now.threads > before.threads+moreThreads {
			return fmt.Sprintf("%+v, at the start %+v", now, before), nil
		}
		return "", nil
	}))
	fmt.Printf("contention: hive has %d descriptors and %d threads; at the start it had %d and %d\n", now.fds, now.threads, before.fds, before.threads)
}

// readOutput looks for what hive itself has called an error.
func (w *world) readOutput() {
	raw, err := os.ReadFile(w.y.Output())
	if err != nil {
		w.must(err)
		return
	}
	for line := range bytes.Lines(raw) {
		for _, bad := range []string{"level=error", "level=fatal", "panic: ", "DATA RACE"} {
			if bytes.Contains(line, []byte(bad)) {
				w.must(errors.New("hive has printed: " + string(bytes.TrimSpace(line))))
			}
		}
	}
}
