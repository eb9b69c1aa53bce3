// Torture ends hive at random moments, three times in four with kill -9 and else with
// SIGTERM, while several clients spawn and stop workers, and starts it again. After
// each start every process must have a record (else it is an ORPHAN), every lease a
// process (LEAK), every port one holder at most (DOUBLE), and every worker's record
// must agree with its lease and its process (WRONG). At the end all workers are stopped
// on request, and no lease may be left.
//
// The same is then done with a build whose spawn gate does not wait: that run must
// find orphans, or this program proves nothing.
//
// CI runs 150 rounds, which take 45 to 65 s on two cores; by hand, before a release,
// run 1000 (make torture ROUNDS=1000, about 7 minutes). It finds processes in
// /proc, by the stamp in their environment, and asks hive only through its API.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"rbeehive/test/harness"
)

func main() {
	nogate := flag.String("nogate", "", "a hive binary built with -tags nogate; empty: do not show that the test can fail")
	rounds := flag.Int("rounds", 300, "how often hive is ended")
	clients := flag.Int("clients", 6, "clients that spawn and stop at once")
	harness.Main("torture", func(ctx context.Context, p *harness.Program) error {
		t, err := torture(ctx, p, p.Hive, *rounds, *clients, func(*harness.Tally) bool { return false })
		if err != nil {
			return err
		}
		if err := t.Verdict("spawned", "stopped", "adopted"); err != nil || *nogate == "" {
			return err
		}
		p.Printf("now without the gate")
		t, err = torture(ctx, p, *nogate, max(*rounds, 300), *clients, orphaned)
		if err == nil && !orphaned(t) {
			err = errors.New("a hive without the spawn gate left no orphan: this test cannot fail and proves nothing")
		}
		return err
	})
}

func orphaned(t *harness.Tally) bool { return t.Violations("ORPHAN") > 0 }

const (
	// ports is how many ports the workers may have.
	ports = 48
	// termOneIn is how many rounds come to one that ends with SIGTERM instead of
	// kill -9: an orderly end in the middle of a spawn is as dangerous.
	termOneIn = 4
	// longestRound is how long hive may live in a round, at most.
	longestRound = 200 * time.Millisecond
	stopTimeout  = time.Minute
)

const entries = `[{name: nap, command: [sleep, "300"], stop: {signal: [SIGKILL]}}]`

// run is the rounds with one binary.
type run struct {
	hive    *harness.Instance
	tally   *harness.Tally
	rand    *rand.Rand
	clients int
}

// torture runs rounds until enough was seen, and the final checks.
func torture(ctx context.Context, p *harness.Program, binary string, rounds, clients int, enough func(*harness.Tally) bool) (t *harness.Tally, err error) {
	hive, err := harness.New(binary, ports, entries)
	if err != nil {
		return nil, err
	}
	defer func() { err = hive.Close(err) }()
	hive.Gates = harness.BothGates
	r := &run{hive: hive, tally: p.NewTally(), rand: p.Rand(1), clients: clients}
	for n := 1; n <= rounds && !enough(r.tally); n++ {
		if err := r.round(ctx); err != nil {
			return nil, fmt.Errorf("round %d: %w", n, err)
		}
		r.tally.Add("rounds", 1)
		p.Progress("%s", r.tally)
	}
	err = r.finalChecks(ctx)
	p.Printf("%s", r.tally)
	return r.tally, err
}

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

// round starts hive, checks it, lets the clients work, and ends it meanwhile.
func (r *run) round(ctx context.Context) error {
	if err := r.startAndCheck(ctx); err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	seed := r.rand.Uint64()
	for n := range r.clients {
		clients.Go(func() {
			for rnd := rand.New(rand.NewPCG(seed, uint64(n))); working.Err() == nil; {
				r.spawnOrStop(working, rnd)
			}
		})
	}
	harness.Sleep(ctx, time.Duration(r.rand.IntN(int(longestRound))))
	var err error
	if r.rand.IntN(termOneIn) == 0 {
		err = r.hive.Term()
	} else {
		r.hive.Kill()
	}
	stop()
	clients.Wait()
	return errors.Join(ctx.Err(), err)
}

// spawnOrStop is one operation of a client. Errors are expected: hive is being ended.
func (r *run) spawnOrStop(ctx context.Context, rnd *rand.Rand) {
	live, err := r.hive.Live(ctx)
	if err != nil {
		return
	}
	if rnd.IntN(ports) < len(live) {
		for id := range live {
			if r.hive.Succeed(ctx, harness.Stop(id), nil) == nil {
				r.tally.Add("stopped", 1)
			}
			return
		}
	}
	op := harness.Spawn("nap")
	if rnd.IntN(8) == 0 {
		op = harness.Spawn("cpu") // listens, and takes longer to start
	}
	op["wait"] = "started"
	if r.hive.Succeed(ctx, op, nil) == nil {
		r.tally.Add("spawned", 1)
	}
}

// finalChecks stops all workers on request. No lease may be left then, and without
// contradictions no process.
func (r *run) finalChecks(ctx context.Context) error {
	if err := r.startAndCheck(ctx); err != nil {
		return err
	}
	if _, err := r.hive.StopAll(ctx, stopTimeout); err != nil {
		return err
	}
	leases, err := r.hive.Leases(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases {
		r.tally.Violation("LEAK", "after all workers were stopped, port %d is leased: %s", l.Port, l.State)
	}
	if err := r.check(ctx); err != nil {
		return err
	}
	return r.hive.Term()
}

// check compares the processes with what hive says of them.
func (r *run) check(ctx context.Context) error {
	broken, err := r.hive.Contradictions(ctx)
	for _, c := range broken {
		r.tally.Violation(c.Kind, "%s", c.Text)
	}
	return err
}
