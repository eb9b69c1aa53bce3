// Soak runs one hive for a long time under a load that does not change, and looks at
// whether what it uses does: memory, descriptors, threads, goroutines, child processes,
// CPU time, the state file and the records in it, logs, and the data directory as a
// whole, by length and by blocks. What goes on growing is a violation, however small it
// is now.
//
// The load: 200 reference workers of types that are restarted always, on failure, never
// or when their entry changes, some of which fill their logs. Clients spawn, stop and
// restart them through jobs and kill them with kill -9; some spawns fail or are cancelled.
// Others acquire leases, by ttl and by process, and renew, release or lose them; download
// models from a hub of the program's own over connections that are cut, and delete them;
// follow events, logs and telemetry, some of them slowly, and go; and ask for everything
// that can be asked for. The configuration is rewritten and reloaded by SIGHUP. Clients
// pause between what they do, so that a slow machine changes the load as little as can be.
//
// Growth is told from filling up by the time: the first third of the run, and at least 75
// seconds, is for warming up, and of each series the median of the last third may not be
// above that of the middle third by more than the series allows (series.go). For that all
// that is kept for a while, or up to a number, must be full by then:
//
//   - jobs.retention 1m (the least), jobs.keep 300: the events of no job go after the one,
//     jobs by the other. Unset they stay 7 days.
//   - workers_keep 30s, logs.max_size 64KiB (the least), logs.keep 1, logs.max_total 1MiB:
//     ended workers go with their logs; logs of the living are rotated every few seconds.
//   - backup.interval 1m (the least), backup.keep 1: else a copy of the state file would
//     be added every day, and seven stay. Here one is made, and one removed, each minute.
//   - audit.interval 5s: it prunes, and frees what is quarantined.
//   - Tombstones of leases stay for 7 days, up to 8,192, and answers to queries until they have
//     4 MiB together, which no setting changes. They are made before the run: the first by
//     leases of 256 ports.
//   - log_level warn: hive's own log goes to a file of the test's, outside the data directory.
//
// It writes its samples to a CSV file as they come, and at the end draws them as an SVG.
// By hand run an hour (make soak FOR=1h), which finds a growth of about 30 MiB of memory,
// or 120 descriptors, in that time. It asks hive only through its API, and finds what it
// uses in /proc and in its data directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"rbeehive/test/harness"
	"rbeehive/test/hub"
)

func main() {
	var o options
	flag.DurationVar(&o.length, "for", time.Hour, "for how long, its first third for warming up")
	flag.IntVar(&o.workers, "workers", 200, "workers")
	flag.StringVar(&o.csv, "csv", "", "file for the samples; empty: none")
	flag.StringVar(&o.svg, "svg", "", "file for a drawing of them; empty: none")
	harness.Main("soak", func(ctx context.Context, p *harness.Program) error { return soak(ctx, p, o) })
}

type options struct {
	length   time.Duration
	workers  int
	csv, svg string
}

const (
	// leastWarmUp is how long it takes until what is kept for the least time that can be
	// configured, a minute, is full.
	leastWarmUp = 75 * time.Second
	// samples is how often a run looks, unless that would be more than once a second.
	samples      = 200
	leastBetween = time.Second
	finalTimeout = 2 * time.Minute
	// tombstones is how many records of ended leases hive keeps, and row how many ports
	// the leases have that make them.
	tombstones = 8192
	row        = 256
	spare      = 60 // ports for leases, and for workers that are just being replaced
	// answers is how many lists of all workers are more than hive keeps, by their size.
	answers = 300
)

// growth is what hive may have more at the end, without any load, than at the start.
var growth = harness.Usage{FDs: 8, Threads: 24, Goroutines: 8}

// mustHappen are the counts without which the run has shown nothing.
var mustHappen = []string{
	"spawned", "stopped", "restarted", "killed", "spawns failed", "spawns cancelled", "checks",
	"leases", "renewed", "released", "expired", "holders killed",
	"downloaded", "connections of the hub cut", "models deleted",
	"streams", "slow streams", "queries", "reloads",
}

// run is one run of the program.
type run struct {
	p       *harness.Program
	hive    *harness.Instance
	hub     *hub.Hub
	tally   *harness.Tally
	workers int
	crowd   crowd
	names   atomic.Int64 // of workers that were given one
	round   atomic.Int64 // of the configuration
}

func soak(ctx context.Context, p *harness.Program, o options) (err error) {
	server := hub.Start()
	defer server.Close()
	r := &run{p: p, hub: server, tally: p.NewTally(), workers: o.workers}
	r.fillHub()
	if r.hive, err = harness.New(p.Hive, max(o.workers+spare, row), entries(0), settings(0, server.URL)...); err != nil {
		return err
	}
	defer func() { err = r.hive.Close(err) }()
	if err := r.hive.Start(ctx); err != nil {
		return err
	}
	before, err := r.hive.Usage(ctx)
	if err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	seen, err := r.observe(ctx, o)
	if err == nil {
		r.judge(seen)
		err = r.finish(ctx, before)
	}
	// What there is of it: who has stopped the run wants to see how far it came.
	if err := errors.Join(err, r.draw(seen, o)); err != nil {
		return err
	}
	return r.tally.Verdict(mustHappen...)
}

// prepare fills up what takes longer than the run by itself, and starts the workers.
func (r *run) prepare(ctx context.Context) error {
	if err := r.makeTombstones(ctx); err != nil {
		return fmt.Errorf("make %d tombstones: %w", tombstones, err)
	}
	if err := r.populate(ctx); err != nil {
		return err
	}
	for range answers {
		if err := r.hive.Succeed(ctx, harness.Op{"operation": "worker_process_list"}, nil); err != nil {
			return err
		}
	}
	return nil
}

// observe runs the load for the length of the run and looks at hive meanwhile.
func (r *run) observe(ctx context.Context, o options) (seen observations, err error) {
	seen.warmUp = max(o.length/3, leastWarmUp)
	seen.end = seen.warmUp + o.length*2/3
	working, enough := context.WithTimeout(ctx, seen.end)
	var clients sync.WaitGroup
	defer func() {
		enough()
		clients.Wait()
	}()
	r.load(ctx, working, &clients)
	s, err := r.newSampler(o.csv)
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	tick := time.NewTicker(max(seen.end/samples, leastBetween))
	defer tick.Stop()
	for {
		select {
		case <-working.Done():
			return seen, ctx.Err()
		case <-tick.C:
		}
		if err := s.look(ctx, &seen); err != nil {
			return seen, err
		}
		r.p.Progress("%s", r.tally)
	}
}

// load lets all clients begin. They end with working, each behind what it does then.
func (r *run) load(ctx, working context.Context, clients *sync.WaitGroup) {
	stream := uint64(0)
	begin := func(n int, pause time.Duration, do func(*client, context.Context)) {
		for range n {
			stream++
			c := &client{run: r, rnd: r.p.Rand(stream), working: working}
			clients.Go(func() { c.repeat(ctx, pause, do) })
		}
	}
	begin(4, 500*time.Millisecond, (*client).churn)
	begin(8, 200*time.Millisecond, (*client).holdByTTL)
	begin(4, 200*time.Millisecond, (*client).holdByProcess)
	begin(10, 200*time.Millisecond, (*client).follow)
	begin(2, time.Second, (*client).download)
	begin(2, 250*time.Millisecond, (*client).query)
	begin(1, 4*time.Second, (*client).reload)
}

// finish stops all and looks whether anything is left.
func (r *run) finish(ctx context.Context, before harness.Usage) error {
	if err := r.checkReload(ctx); err != nil {
		return err
	}
	if _, err := r.hive.StopAll(ctx, finalTimeout); err != nil {
		return err
	}
	if err := r.hive.FinalChecks(ctx, finalTimeout, r.hive.UsesAtMost(before, growth)); err != nil {
		return err
	}
	return r.hive.Term()
}
