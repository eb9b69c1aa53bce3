// Listeners runs rounds of jobs under one hive, with a listener on the events of each
// job and some on all events, and ends hive with kill -9 in the middle of them. It is
// started again, and every listener comes back with the last id that it has. Each must
// have received every event exactly once and in order, a listener on all events those
// of each job as the job's own did, and each job must have ended as its end event and
// the processes say. At the end no process and no lease may be left.
//
// CI runs 20 s of it (about 25 s in all); by hand run 5 minutes (make listeners
// FOR=5m). It asks hive only through its API, and finds processes in /proc.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"time"

	"rbeehive/test/harness"
)

func main() {
	length := flag.Duration("for", 5*time.Minute, "for how long rounds begin")
	jobs := flag.Int("jobs", 50, "jobs of a round, each with a listener")
	feeds := flag.Int("feeds", 5, "listeners on all events")
	harness.Main("listeners", func(ctx context.Context, p *harness.Program) error {
		return listeners(ctx, p, *length, *jobs, *feeds)
	})
}

// ports is how many ports there are: fewer than jobs may want, so that some fail.
const ports = 48

// The worker types: one that serves at once, one that takes a while, one that never
// gets ready, and one that ends by itself.
const entries = `
  - {name: quick, command: ["{{.Hive}}", worker, --port, "{{.Port}}"], ready: {path: /health}}
  - {name: slow, command: ["{{.Hive}}", worker, --port, "{{.Port}}", --load-time, 700ms], ready: {path: /health}}
  - {name: never, command: ["{{.Hive}}", worker, --port, "{{.Port}}", --unhealthy], ready: {path: /health}}
  - {name: broken, command: ["{{.Hive}}", worker, --port, "{{.Port}}", --exit-code, "7"], ready: {path: /health}}`

const (
	// busy is for how long jobs are submitted in a round, and hive is killed.
	busy = 1200 * time.Millisecond
	// How long the jobs of a round may take in all, the processes until they agree with
	// them, and everything at the end until nothing is left.
	jobsTimeout  = 60 * time.Second
	agreeTimeout = 60 * time.Second
	finalTimeout = 60 * time.Second
)

// run is one run of the program.
type run struct {
	hive     *harness.Instance
	tally    *harness.Tally
	rand     *rand.Rand
	received map[string][]harness.Event // by each job's listener
}

func listeners(ctx context.Context, p *harness.Program, length time.Duration, jobs, feeds int) (err error) {
	hive, err := harness.New(p.Hive, ports, entries, "audit: {interval: 1s}")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	if err := hive.Start(ctx); err != nil {
		return err
	}
	r := &run{hive: hive, tally: p.NewTally(), rand: p.Rand(1), received: map[string][]harness.Event{}}
	listening, stop := context.WithCancel(ctx)
	defer stop()
	all := r.listenToAll(listening, feeds)
	for end := time.Now().Add(length); time.Now().Before(end); {
		r.tally.Add("rounds", 1)
		if err := r.round(ctx, jobs); err != nil {
			return fmt.Errorf("after %s: %w", r.tally, err)
		}
		p.Progress("%s", r.tally)
	}
	if _, err := hive.StopAll(ctx, finalTimeout); err != nil {
		return err
	}
	if err := hive.FinalChecks(ctx, finalTimeout); err != nil {
		return err
	}
	if err := r.checkFeeds(ctx, all); err != nil {
		return err
	}
	p.Printf("%s; every event was received once and in order", r.tally)
	if err := hive.Term(); err != nil {
		return err
	}
	return r.tally.Verdict("kills of hive", "jobs succeeded", "jobs failed", "jobs cancelled")
}
