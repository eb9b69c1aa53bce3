package harness

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is a test program that runs.
type Program struct {
	Hive string // -hive
	Seed uint64 // -seed

	name    string
	started time.Time

	mu       sync.Mutex
	progress time.Time // of the last report
}

// Main is the main of a test program, whose own flags are defined before. It parses
// the command line, prints all flags, so that the run can be repeated, and runs the
// program until it returns; its context ends with the first SIGINT or SIGTERM. An
// error is printed, and the exit code is 1 then.
func Main(name string, run func(context.Context, *Program) error) {
	p := &Program{name: name, started: time.Now()}
	flag.StringVar(&p.Hive, "hive", "bin/hive", "the hive binary")
	flag.Uint64Var(&p.Seed, "seed", uint64(time.Now().UnixNano()), "seed of what happens at random, if anything does")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "%s: unexpected arguments: %q\n", name, flag.Args())
		os.Exit(2)
	}
	var flags strings.Builder
	flag.VisitAll(func(f *flag.Flag) { fmt.Fprintf(&flags, " -%s=%s", f.Name, f.Value) })
	p.Printf("%s", strings.TrimSpace(flags.String()))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, p)
	stop()
	took := time.Since(p.started).Round(time.Second)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: FAILED after %s: %v\n", name, took, err)
		os.Exit(1)
	}
	p.Printf("passed after %s", took)
}

// Rand is a source of random numbers, which depends on the seed and the stream only.
func (p *Program) Rand(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(p.Seed, stream)) }

// Printf prints a line.
func (p *Program) Printf(format string, args ...any) {
	fmt.Println(p.name + ": " + fmt.Sprintf(format, args...))
}

// progressInterval is the time between two reports of progress.
const progressInterval = 10 * time.Second

// Progress prints how far the program has come, if it has not done so lately.
func (p *Program) Progress(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.progress) < progressInterval {
		return
	}
	if !p.progress.IsZero() { // Main has printed the start
		p.Printf("after %s: %s", time.Since(p.started).Round(time.Second), fmt.Sprintf(format, args...))
	}
	p.progress = time.Now()
}
