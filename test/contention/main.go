// Contention lets 64 clients spawn and stop workers and lease ports at once, on a
// range of 40 ports, while strangers bind and close ports of the range at random, and
// kills hive with kill -9 in the middle. No port may ever have had two leases: the
// history of every port must be linearizable, and a copy with a forged second lease
// must not be. hive may send no request to a stranger and call none a worker. At the
// end every port must be free and work, and no lease, no process, and not many more
// descriptors, threads and goroutines than at the start may be left.
//
// CI runs 45 s of it (about 50 s in all); by hand, before a release, run 5 minutes
// (make contention FOR=5m). It asks hive only through its API, and finds processes in /proc.
package main

import (
	"context"
	"flag"
	"sync"
	"time"

	"rbeehive/test/harness"
)

func main() {
	length := flag.Duration("for", 5*time.Minute, "for how long")
	clients := flag.Int("clients", 64, "clients at once")
	harness.Main("contention", func(ctx context.Context, p *harness.Program) (err error) {
		hive, err := harness.New(p.Hive, ports, entries(), "audit: {interval: 1s}")
		if err != nil {
			return err
		}
		defer func() { err = hive.Close(err) }()
		return newRun(p, hive).contend(ctx, *length, *clients)
	})
}

const (
	// ports is the size of the range: fewer than there are clients, so that it is used
	// up again and again.
	ports = 40
	// maxStrangers is how many ports of the range are in other hands at a time, at most.
	maxStrangers = 8
)

// mustHappen are the counts without which the run has shown nothing.
var mustHappen = []string{
	"spawned", "spawns failed", "stopped", "killed", "urls asked", "leases", "renewed", "bound", "released", "expired",
	"holders killed", "ports_exhausted", "port_unavailable", "ports taken by strangers", "strangers", "adopted",
}

func (r *run) contend(ctx context.Context, length time.Duration, clients int) error {
	if err := r.hive.Start(ctx); err != nil {
		return err
	}
	before, err := r.hive.Usage(ctx)
	if err != nil {
		return err
	}
	if err := r.compete(ctx, length, clients); err != nil {
		return err
	}
	if err := r.finalChecks(ctx, before); err != nil {
		return err
	}
	return r.tally.Verdict(mustHappen...)
}

// compete lets everybody loose and kills hive once in the middle. It returns when all
// clients and strangers have gone.
func (r *run) compete(ctx context.Context, length time.Duration, n int) error {
	competing, enough := context.WithTimeout(ctx, length)
	watching, watched := context.WithCancel(ctx)
	var clients, others sync.WaitGroup
	for i := range n {
		clients.Go(func() { newClient(r, i).work(ctx, competing) })
	}
	for i := range maxStrangers {
		others.Go(func() { r.takePorts(competing, r.p.Rand(uint64(1000+i))) })
	}
	others.Go(func() { r.watchLeases(watching) })
	others.Go(func() { r.watchProcesses(watching) })
	defer func() {
		enough()
		clients.Wait()
		watched()
		others.Wait()
	}()
	killed := false
	for begin := time.Now(); harness.Sleep(competing, 100*time.Millisecond); r.p.Progress("%s", r.tally) {
		if killed || time.Since(begin) < length/2 {
			continue
		}
		killed = true
		if err := r.hive.Restart(ctx); err != nil {
			return err
		}
		info, err := r.hive.Info(ctx)
		if err != nil {
			return err
		}
		r.p.Printf("hive was killed and is back: %d workers adopted, %d freed, %d unverified",
			info.Recovery.Adopted, info.Recovery.Freed, info.Recovery.Unverified)
		r.tally.Add("adopted", info.Recovery.Adopted)
	}
	return ctx.Err()
}
