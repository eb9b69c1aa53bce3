// Contention lets many clients spawn and stop workers and lease ports at once, on
// a range with fewer ports than clients, while strangers bind and close ports of
// the range at random, kills hive with kill -9 in the middle, and checks that no
// port ever had two leases (the history of every port must be linearizable), that
// hive sent no request to a stranger and called none a worker, and that nothing
// is left at the end: no lease, no process, no port, no descriptor.
//
// It looks at hive only through its API, and at processes through /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"rbeehive/test/yard"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "contention:", err)
		os.Exit(1)
	}
}

type options struct {
	hive    string
	length  time.Duration
	clients int
	seed    uint64
}

// ports is the size of the range: fewer than there are clients, so that it is
// used up again and again.
const ports = 40

// strangersAtOnce is how many ports of the range are in other hands at a time, at most.
const strangersAtOnce = 8

func run() error {
	var o options
	flag.StringVar(&o.hive, "hive", "bin/hive", "the hive binary")
	flag.DurationVar(&o.length, "for", 5*time.Minute, "for how long")
	flag.IntVar(&o.clients, "clients", 64, "clients at once")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of what the clients and the strangers do")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Printf("contention: %s, %d clients and %d strangers on %d ports, seed %d\n", o.length, o.clients, strangersAtOnce, ports, o.seed)
	w, err := contend(ctx, o)
	if err != nil {
		return err
	}
	return w.verdict()
}

// contend does all of it in a directory of its own and cleans up behind itself.
func contend(ctx context.Context, o options) (w *world, err error) {
	y, err := yard.New(o.hive, ports, entries(), "audit: {interval: 1s}")
	if err != nil {
		return nil, err
	}
	w = newWorld(y)
	defer func() {
		if len(w.findings) > 0 {
			w.printOutput()
		}
		err = errors.Join(err, y.Clear())
	}()
	h, err := y.Start(ctx)
	if err != nil {
		return w, err
	}
	defer func() { h.Kill() }()
	before, err := usageOf(h.PID())
	if err != nil {
		return w, err
	}
	s := newStrangers(w)
	if h, err = w.rush(ctx, o, h, s); err != nil {
		return w, err
	}
	return w, w.finale(ctx, h, before)
}

// rush lets everybody loose and kills hive once in the middle. It returns the
// hive that runs when all clients and strangers have gone.
func (w *world) rush(ctx context.Context, o options, h *yard.Daemon, s *strangers) (*yard.Daemon, error) {
	rushing, enough := context.WithTimeout(ctx, o.length)
	defer enough()
	var clients, others sync.WaitGroup
	for i := range o.clients {
		clients.Go(func() { newClient(w, i, o.seed).work(ctx, rushing) })
	}
	for i := range strangersAtOnce {
		others.Go(func() { s.roam(rushing, rand.New(rand.NewPCG(o.seed, uint64(1000+i)))) })
	}
	watching, watched := context.WithCancel(ctx)
	others.Go(func() { w.watchLeases(watching) })
	others.Go(func() { w.watchProcesses(watching) })
	defer func() {
		enough()
		clients.Wait()
		watched()
		others.Wait()
	}()

	begun := time.Now()
	report := time.NewTicker(max(10*time.Second, o.length/10))
	defer report.Stop()
	half := time.After(o.length / 2)
	for {
		select {
		case <-rushing.Done():
			return h, ctx.Err()
		case <-report.C:
			fmt.Printf("contention: after %s: %s\n", time.Since(begun).Round(time.Second), w.tally)
		case <-half:
			h.Kill()
			again, err := w.y.Start(ctx)
			if err != nil {
				return h, err
			}
			h = again
			info, err := h.Info(ctx)
			if err != nil {
				return h, err
			}
			fmt.Printf("contention: hive was killed and is back: %d workers taken back, %d freed, %d unverified\n",
				info.Recovery.Adopted, info.Recovery.Freed, info.Recovery.Unverified)
			w.tally.add("adopted", info.Recovery.Adopted)
		}
	}
}
