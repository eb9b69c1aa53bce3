// Chaos runs 100 workers under one hive and, at random, kills workers and hive itself
// with kill -9, stops and restarts workers, and reloads the configuration. Then each
// worker must come to be where its restart policy and the last request to it say: one
// that is to be restarted is ready, one that was stopped is stopped, one that may not
// be restarted has failed. At the end all are stopped, and no process, no lease, and
// not many more descriptors, threads and goroutines than at the start may be left.
//
// CI runs 30 s of it (about 35 s in all); by hand, before a release, run 10 minutes
// (make chaos FOR=10m). It asks hive only through its API, and finds processes in /proc.
package main

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"time"

	"rbeehive/test/harness"
)

func main() {
	length := flag.Duration("for", 10*time.Minute, "for how long")
	workers := flag.Int("workers", 100, "workers")
	harness.Main("chaos", func(ctx context.Context, p *harness.Program) error { return chaos(ctx, p, *length, *workers) })
}

// The worker types. Waits are short and many failures are allowed, so that a
// worker that is to be restarted always is.
const (
	steady = "steady" // restarted whenever it ends
	once   = "once"   // never restarted
)

const entries = `
  - {name: steady, command: ["{{.Hive}}", worker, --port, "{{.Port}}", --worker-id, "{{.WorkerID}}"], ready: {path: /health}, restart: {policy: always, max: 1000, window: 1s, backoff: 20ms, max_backoff: 200ms}}
  - {name: once, command: ["{{.Hive}}", worker, --port, "{{.Port}}", --worker-id, "{{.WorkerID}}"], ready: {path: /health}}`

// How long the workers may take until they are where they should be (kills, backoff,
// two audits), and hive until nothing is left.
const (
	expectationTimeout = 60 * time.Second
	finalTimeout       = 60 * time.Second
)

// growth is what hive may have more at the end than at the start: the pools of its
// runtime grow with what was done at once, not with what was done.
var growth = harness.Usage{FDs: 8, Threads: 24, Goroutines: 8}

// run is one run of the program.
type run struct {
	hive  *harness.Instance
	tally *harness.Tally
	rand  *rand.Rand
	want  map[string]*expectation // by worker id
}

func chaos(ctx context.Context, p *harness.Program, length time.Duration, workers int) (err error) {
	hive, err := harness.New(p.Hive, workers+20, entries, "audit: {interval: 1s}")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	hive.Gates = harness.BothGates
	if err := hive.Start(ctx); err != nil {
		return err
	}
	before, err := hive.Usage(ctx)
	if err != nil {
		return err
	}
	r := &run{hive: hive, tally: p.NewTally(), rand: p.Rand(1), want: map[string]*expectation{}}
	if err := r.populate(ctx, workers); err != nil {
		return err
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		if err := r.disturb(ctx); err != nil {
			return err
		}
		p.Progress("%s", r.tally)
	}
	p.Printf("%s", r.tally)
	if err := harness.Eventually(ctx, expectationTimeout, func() (string, error) { return r.unmet(ctx) }); err != nil {
		return err
	}
	if _, err := hive.StopAll(ctx, finalTimeout); err != nil {
		return err
	}
	if err := hive.FinalChecks(ctx, finalTimeout, hive.UsesAtMost(before, growth)); err != nil {
		return err
	}
	after, err := hive.Usage(ctx)
	if err != nil {
		return err
	}
	p.Printf("every worker was where it should be, and nothing is left (before: %s; after: %s)", before, after)
	if err := hive.Term(); err != nil {
		return err
	}
	return r.tally.Verdict("kills", "worker_restart", "worker_stop", "reloads", "hives killed")
}

// populate starts n workers, two thirds of them of the type that is restarted.
func (r *run) populate(ctx context.Context, n int) error {
	types := slices.Repeat([]string{steady, steady, once}, n/3+1)[:n]
	all, err := r.hive.SpawnAll(ctx, types)
	for i, w := range all {
		r.want[w.WorkerID] = &expectation{typ: types[i], state: "ready"}
	}
	return err
}
