// Killwalk ends hive with kill -9 at chosen system calls: right before the n-th of those
// that change what others see (write, fdatasync, rename, bind, clone, a signal, ...),
// counted over all its threads by ptrace. A fixed script of requests runs meanwhile:
// starts, leases, a request with a key, a restart, the kill of a worker that is restarted,
// a reload, a cancellation, a stop. Hive is started again, and everything that it had
// acknowledged must be so: jobs, leases, workers with the very processes that they had;
// no process without a record, no lease without a holder, no port twice, no stranger
// signalled, a sound state file. Then all is stopped, and nothing may be left.
//
// It does so for calls of a run; for calls of a recovery, which finds workers alive and
// dead; and for pairs: killed in a run and then in the recovery from that. And it lets
// one call fail with an error of its man page (EIO, ENOSPC, EMFILE, EAGAIN, EACCES, ...),
// write half, or take two seconds: hive may refuse what is asked and may end, if it says
// why; what was acknowledged holds all the same.
//
// The commands of hivectl db that write are killed in the same way, on the file of a hive that
// was killed.
//
// CI runs a sample of the kills; by hand, make killwalk runs every call of run and recovery, 2000 pairs
// and 1000 faults. A walk takes about half a second of a core. What it finds it prints with
// the flags that repeat it, as far as threads do the same thing twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"rbeehive/test/harness"
)

func main() {
	var k killwalk
	flag.StringVar(&k.hivectl, "hivectl", "bin/hivectl", "the hivectl binary")
	flag.IntVar(&k.points, "points", 0, "at how many calls of a run, and of a recovery, hive is killed; 0: at each")
	flag.IntVar(&k.pairs, "pairs", 2000, "how often hive is killed in a run and again in the recovery from that")
	flag.IntVar(&k.faults, "faults", 1000, "how many runs have a call fail, write less or take long")
	flag.IntVar(&k.commands, "commands", 0, "at how many calls of each hivectl db compact, backup, restore and salvage that is killed; 0: at each; -1: at none")
	flag.IntVar(&k.only, "only", 0, "one walk: kill at this call of a run, and say what hive has printed")
	flag.IntVar(&k.then, "then", 0, "and then at this call of the recovery; without -only once a whole run is done")
	flag.StringVar(&k.gate, "gate", "", "auto or process; default: both, one after the other")
	flag.IntVar(&k.parallel, "parallel", 2, "walks at a time")
	harness.Main("killwalk", k.run)
}

type killwalk struct {
	hivectl        string
	points, pairs  int
	faults         int
	commands       int
	only, then     int
	parallel       int
	program        *harness.Program
	tally          *harness.Tally
	rand           *rand.Rand
	runs, recovers int // calls of a whole run, and of a whole recovery, as they were counted first
	gate           string
}

// point is where hive is killed. At 0 it is killed once everything is done.
type point struct {
	gate          string
	run, recovery int
}

const none = -1 // there is no such kill

func (k *killwalk) run(ctx context.Context, p *harness.Program) error {
	k.program, k.tally, k.rand = p, p.NewTally(), p.Rand(1)
	if k.only > 0 || k.then > 0 {
		for _, gate := range k.gates() {
			at := point{gate, k.only, k.then}
			if k.then == 0 {
				at.recovery = none
			}
			if err := k.walk(ctx, at); err != nil {
				return err
			}
		}
		return k.tally.Verdict("kills")
	}
	if err := k.count(ctx); err != nil {
		return err
	}
	p.Printf("a run makes %d calls, a recovery %d", k.runs, k.recovers)
	all := k.plan()
	if k.commands >= 0 {
		more, err := k.planCommands(ctx)
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	if err := k.each(ctx, all); err != nil {
		return err
	}
	return k.tally.Verdict("kills")
}

// count finds out how many calls there are.
func (k *killwalk) count(ctx context.Context) error {
	for _, gate := range k.gates() {
		if err := k.walk(ctx, point{gate, 0, 0}); err != nil {
			return err
		}
	}
	return nil
}

// gates are those that are walked.
func (k *killwalk) gates() []string {
	if k.gate != "" {
		return []string{k.gate}
	}
	return harness.BothGates
}

// plan lists what is to be done: kills in runs, in recoveries, in both; faults.
func (k *killwalk) plan() (all []func(context.Context) error) {
	kill := func(at point) {
		all = append(all, func(ctx context.Context) error { return k.walk(ctx, at) })
	}
	gates := k.gates()
	for _, gate := range gates {
		for _, n := range k.sample(k.runs, k.points) {
			kill(point{gate, n, none})
		}
		for _, n := range k.sample(k.recovers, k.points) {
			kill(point{gate, 0, n})
		}
	}
	for n := range k.pairs {
		kill(point{gates[n%len(gates)], 1 + k.rand.IntN(k.runs), 1 + k.rand.IntN(k.recovers)})
	}
	for n := range k.faults {
		at := 1 + k.rand.IntN(k.runs)
		all = append(all, func(ctx context.Context) error { return k.fault(ctx, gates[n%len(gates)], at, uint64(n)) })
	}
	return all
}

// planCommands runs each command once, to count its calls, and lists where it is to be killed.
func (k *killwalk) planCommands(ctx context.Context) (all []func(context.Context) error, err error) {
	for _, c := range commands() {
		calls, err := k.commandAt(ctx, c, 0)
		if err != nil {
			return nil, err
		}
		k.program.Printf("hivectl db %s makes %d calls", c.name, calls)
		for _, n := range k.sample(calls, k.commands) {
			all = append(all, func(ctx context.Context) error { _, err := k.commandAt(ctx, c, n); return err })
		}
	}
	return all, nil
}

// sample is the numbers from 1 to n, or so many of them as are wanted; 0: all.
func (k *killwalk) sample(n, wanted int) []int {
	all := k.rand.Perm(n)
	if wanted > 0 {
		all = all[:min(wanted, n)]
	}
	for i := range all {
		all[i]++
	}
	return all
}

func (k *killwalk) each(ctx context.Context, all []func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(k.parallel)
	for done, walk := range all {
		g.Go(func() error {
			err := walk(ctx)
			k.program.Progress("%d of %d: %s", done, len(all), k.tally)
			return err
		})
		if ctx.Err() != nil {
			break
		}
	}
	err := g.Wait()
	k.program.Printf("%s", k.tally)
	return err
}

// walk is one hive from its first start to its end.
func (k *killwalk) walk(ctx context.Context, at point) error {
	w, err := newWalk(k.program.Hive, at.gate)
	if err != nil {
		return err
	}
	said, broken, err := k.kills(ctx, w, at)
	if err == nil {
		var after []harness.Contradiction
		after, err = w.check(ctx, k.hivectl)
		broken = append(broken, after...)
	}
	k.report(w, said, broken)
	if err = w.close(err); err != nil {
		return fmt.Errorf("%s: %w", said, err)
	}
	return nil
}

// report tells of what is broken, with what hive has printed.
func (k *killwalk) report(w *walk, said string, broken []harness.Contradiction) {
	for _, b := range broken {
		k.tally.Violation(b.Kind, "%s: %s", said, b.Text)
	}
	if k.only > 0 || k.then > 0 || broken != nil {
		k.program.Printf("%s; hive has printed:\n%s", said, w.output())
	}
}

// kills lets a hive run and kills it where it is to be killed. It says where that was.
func (k *killwalk) kills(ctx context.Context, w *walk, at point) (said string, broken []harness.Contradiction, err error) {
	t, err := w.traced(ctx, killAt(at.run), w.script.run)
	said = "gate " + at.gate + ", killed " + t.place("the run")
	if err != nil {
		return said, nil, err
	}
	k.tally.Add("kills", 1)
	if at.recovery == none {
		return said, nil, nil
	}
	if at.run == 0 {
		k.runs = max(k.runs, t.calls)
		if err := w.script.killWorkers(ctx); err != nil {
			return said, nil, err
		}
	}
	if t, err = w.traced(ctx, killAt(at.recovery), w.script.recover); errors.Is(err, harness.ErrTimeout) {
		return said, []harness.Contradiction{{Kind: "STUCK", Text: err.Error()}}, nil
	}
	said += ", and " + t.place("the recovery")
	k.tally.Add("kills", 1)
	if at.recovery == 0 {
		k.recovers = max(k.recovers, t.calls)
	}
	return said, nil, err
}
