// Torture ends hive with kill -9, and now and then with SIGTERM, at random
// moments while several clients spawn and stop workers, starts it again, and
// checks that nothing was lost: no process without a record (orphan), no lease
// without a process (leak), no port with two holders. The same is then done with
// a build whose spawn gate does not wait; that run must find orphans, or this
// test proves nothing.
//
// It looks at processes through /proc by the stamp in their environment, and at
// hive only through its API.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"rbeehive/test/yard"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

type options struct {
	hive, nogate string
	rounds       int
	clients      int
	seed         uint64
}

func run() error {
	var o options
	flag.StringVar(&o.hive, "hive", "bin/hive", "the hive binary")
	flag.StringVar(&o.nogate, "nogate", "", "a hive binary built with -tags nogate; empty: do not show that the test can fail")
	flag.IntVar(&o.rounds, "rounds", 300, "how often hive is killed")
	flag.IntVar(&o.clients, "clients", 6, "clients that spawn and stop at once")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the random moments")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	fmt.Printf("torture: %d rounds, %d clients, seed %d\n", o.rounds, o.clients, o.seed)
	begun := time.Now()
	t, err := torment(ctx, o.hive, o.rounds, o, func(tally) bool { return false })
	if err != nil {
		return err
	}
	fmt.Printf("torture: %d rounds in %s: %s\n", t.rounds, time.Since(begun).Round(time.Second), t)
	if t.orphans+t.leaked+t.double+t.wrong > 0 {
		return errors.New("the invariants do not hold")
	}
	if t.spawned == 0 || t.stopped == 0 || t.adopted == 0 {
		return errors.New("nothing happened: workers must have been spawned, stopped and adopted")
	}
	if o.nogate == "" {
		return nil
	}
	begun = time.Now()
	t, err = torment(ctx, o.nogate, max(o.rounds, 300), o, func(t tally) bool { return t.orphans > 0 })
	if err != nil {
		return err
	}
	fmt.Printf("torture: without the gate, %d rounds in %s: %s\n", t.rounds, time.Since(begun).Round(time.Second), t)
	if t.orphans == 0 {
		return errors.New("a hive without the spawn gate left no orphan: this test cannot fail and proves nothing")
	}
	return nil
}

// tally is what was seen in all rounds.
type tally struct {
	rounds, spawned, stopped, adopted int
	orphans, leaked, double, wrong    int
}

func (t tally) String() string {
	return fmt.Sprintf("%d spawned, %d stopped, %d adopted; %d orphans, %d leaked leases, %d double leases, %d wrong records",
		t.spawned, t.stopped, t.adopted, t.orphans, t.leaked, t.double, t.wrong)
}

// ports is how many ports the workers of one yard may have.
const ports = 48

// termOneIn is how many rounds come to one that ends with SIGTERM instead of
// kill -9: an orderly end in the middle of a spawn is as dangerous.
const termOneIn = 4

// longestRound is how long hive may live in a round, at most.
const longestRound = 200 * time.Millisecond

// torment runs the rounds in a directory of its own and cleans up behind itself.
func torment(ctx context.Context, binary string, rounds int, o options, enough func(tally) bool) (t tally, err error) {
	y, err := yard.New(binary, ports, `[{name: nap, command: [sleep, "300"], stop: {signal: [SIGKILL]}}]`)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, y.Clear()) }()
	g := &ground{y, map[string]bool{}}
	rnd := rand.New(rand.NewPCG(o.seed, 1))
	for t.rounds < rounds && ctx.Err() == nil && !enough(t) {
		t.rounds++
		if err := g.round(ctx, rnd, o.clients, &t); err != nil {
			return t, fmt.Errorf("round %d: %w", t.rounds, err)
		}
		if t.rounds%50 == 0 {
			fmt.Printf("torture: round %d: %s\n", t.rounds, t)
		}
	}
	if ctx.Err() != nil {
		return t, ctx.Err()
	}
	return t, g.finale(ctx, &t)
}

// round starts hive, checks it, lets the clients work, and kills it.
func (g *ground) round(ctx context.Context, rnd *rand.Rand, clients int, t *tally) error {
	h, err := g.Start(ctx)
	if err != nil {
		return err
	}
	defer h.Kill()
	info, err := h.Info(ctx)
	if err != nil {
		return err
	}
	t.adopted += info.Recovery.Adopted
	if err := g.check(ctx, h, t); err != nil {
		return err
	}
	end := func() error { h.Kill(); return nil }
	if rnd.IntN(termOneIn) == 0 {
		end = h.Term
	}
	spawned, stopped, err := harass(ctx, h, end, clients, rnd.Uint64(), time.Duration(rnd.IntN(int(longestRound))))
	t.spawned += spawned
	t.stopped += stopped
	return err
}

// finale stops all workers on request and checks that nothing is left.
func (g *ground) finale(ctx context.Context, t *tally) error {
	h, err := g.Start(ctx)
	if err != nil {
		return err
	}
	defer h.Kill()
	if err := g.check(ctx, h, t); err != nil {
		return err
	}
	if err := stopAll(ctx, h); err != nil {
		return err
	}
	leases, err := h.Leases(ctx)
	if err != nil {
		return err
	}
	t.leaked += len(leases)
	for _, l := range leases {
		fmt.Printf("torture: LEAK after all workers were stopped: port %d, %s\n", l.Port, l.State)
	}
	return h.Term()
}
