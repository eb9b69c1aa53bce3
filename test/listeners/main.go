// Listeners runs rounds of jobs under one hive, with a listener on the events of
// each job and some on everything, and ends hive with kill -9 in the middle of
// them. It is started again, and every listener comes back with the last id that it
// has. Each must have seen every event exactly once and in order, and each job must
// have ended as the processes say.
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
		fmt.Fprintln(os.Stderr, "listeners:", err)
		os.Exit(1)
	}
}

type options struct {
	hive   string
	length time.Duration
	jobs   int
	feeds  int
	seed   uint64
}

func run() error {
	var o options
	flag.StringVar(&o.hive, "hive", "bin/hive", "the hive binary")
	flag.DurationVar(&o.length, "for", 5*time.Minute, "for how long rounds begin")
	flag.IntVar(&o.jobs, "jobs", 50, "jobs of a round, each with a listener")
	flag.IntVar(&o.feeds, "feeds", 5, "listeners to everything")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of what happens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Printf("listeners: %s, %d jobs a round, %d listeners to everything, seed %d\n", o.length, o.jobs, o.feeds, o.seed)
	return play(ctx, o)
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

func play(ctx context.Context, o options) (err error) {
	y, err := yard.New(o.hive, ports, entries, "audit: {interval: 1s}")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Clear()) }()
	h, err := y.Start(ctx)
	if err != nil {
		return err
	}
	s := &stage{y: y, h: h, rand: rand.New(rand.NewPCG(o.seed, 1)), told: map[string][]event{}}
	defer func() {
		s.h.Kill()
		if err != nil {
			out, _ := os.ReadFile(y.Output())
			err = fmt.Errorf("%w\nthe end of what hive said:\n%s", err, out[max(0, len(out)-8<<10):])
		}
	}()
	listening, stop := context.WithCancel(ctx)
	defer stop()
	feeds := s.listenToAll(listening, o.feeds)
	for end := time.Now().Add(o.length); time.Now().Before(end); {
		if err := s.round(ctx, o.jobs); err != nil {
			return fmt.Errorf("round %d: %w", s.rounds, err)
		}
		if s.rounds%10 == 0 {
			fmt.Printf("listeners: %s to go: %s\n", time.Until(end).Round(time.Second), s)
		}
	}
	if err := s.end(ctx, feeds); err != nil {
		return err
	}
	fmt.Printf("listeners: %s; every event was seen once and in order, and nothing is left\n", s)
	return s.h.Term()
}
