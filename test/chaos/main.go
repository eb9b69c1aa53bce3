// Chaos runs many workers under one hive and, at random, kills workers and hive
// itself with kill -9, stops and restarts workers, and reloads the configuration.
// Then everybody has time to settle, and each worker must be where its policy and
// the last request to it say: one that is to be restarted is ready, one that was
// stopped is stopped, one that may not be restarted has failed. At the end all are
// stopped, and no process, no lease, no descriptor and no goroutine may be left over.
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
	"syscall"
	"time"

	"rbeehive/test/yard"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

type options struct {
	hive    string
	length  time.Duration
	workers int
	seed    uint64
}

func run() error {
	var o options
	flag.StringVar(&o.hive, "hive", "bin/hive", "the hive binary")
	flag.DurationVar(&o.length, "for", 10*time.Minute, "for how long")
	flag.IntVar(&o.workers, "workers", 100, "workers")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of what happens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Printf("chaos: %s, %d workers, seed %d\n", o.length, o.workers, o.seed)
	return rage(ctx, o)
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

func rage(ctx context.Context, o options) (err error) {
	y, err := yard.New(o.hive, o.workers+20, entries, "audit: {interval: 1s}")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Clear()) }()
	h, err := y.Start(ctx)
	if err != nil {
		return err
	}
	s := &storm{y: y, h: h, rand: rand.New(rand.NewPCG(o.seed, 1)), want: map[string]*fate{}, done: map[string]int{}}
	defer func() {
		s.h.Kill()
		if err != nil {
			err = fmt.Errorf("%w\nthe end of what hive said:\n%s", err, tail(y.Output()))
		}
	}()
	before, err := s.usage(ctx)
	if err != nil {
		return err
	}
	if err := s.populate(ctx, o.workers); err != nil {
		return err
	}
	if err := s.blow(ctx, o.length); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	after, err := s.end(ctx, before)
	if err != nil {
		return err
	}
	fmt.Printf("chaos: %s; every worker was where it should be, and nothing is left (before: %s; after: %s)\n", s, before, after)
	return nil
}

// tail returns the end of a file; nothing if there is none.
func tail(path string) string {
	text, _ := os.ReadFile(path)
	return string(text[max(0, len(text)-8<<10):])
}
