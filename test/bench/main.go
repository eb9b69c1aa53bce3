// Bench runs the Go benchmarks of all packages, then measures jobs that are submitted
// over HTTP and a hive with a full port range of idle workers, and ends with a table of
// what was measured against its targets. It fails only if something could not be
// measured: speed is shown here and never decides whether a test passes.
//
// CI does not run it. By hand (make bench) it takes some minutes, and about 6 GB of memory
// for 1920 workers; -workers 0, -accept=false and -benchtime "" leave parts out.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"rbeehive/test/harness"
)

// packages have benchmarks.
var packages = []string{"./store", "./alloc", "./hive/proc", "./hive"}

// hivectlPath is the hivectl that is measured.
var hivectlPath string

func main() {
	if len(os.Args) > 1 && os.Args[1] == "floor" {
		if err := floorMain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench floor:", err)
			os.Exit(1)
		}
		return
	}
	workers := flag.Int("workers", 1920, "how many idle workers; 0: leave that part out")
	accept := flag.Bool("accept", true, "measure jobs over HTTP")
	life := flag.Bool("life", true, "measure workers from their spawn to their stop")
	peers := flag.String("peers", "", "supervisors to measure beside hive, each NAME or NAME=PATH: process-compose, supervisord, s6")
	kept := flag.Bool("kept", true, "measure a hive that has had 10,000 workers, and starts with large state files")
	follow := flag.Bool("listeners", true, "measure a job with 1,000 listeners")
	flag.StringVar(&hivectlPath, "hivectl", "bin/hivectl", "the hivectl that is measured")
	svg := flag.String("svg", "", "file for a drawing of the table; empty: none")
	benchtime := flag.String("benchtime", "2s", "time of each Go benchmark; empty: leave them out")
	harness.Main("bench", func(ctx context.Context, p *harness.Program) error {
		r := results{}
		for _, part := range []struct {
			what string
			on   bool
			do   func() error
		}{
			{"the benchmarks of packages", *benchtime != "", func() error { return r.goBenchmarks(ctx, *benchtime) }},
			{"the life of workers", *life, func() error { return r.life(ctx, p.Hive) }},
			{"peers", *peers != "", func() error { return r.compare(ctx, strings.Fields(*peers), p.Hive) }},
			{"jobs over HTTP", *accept, func() error { return r.acceptance(ctx, p.Hive) }},
			{"a job with many listeners", *follow, func() error { return r.listeners(ctx, p.Hive) }},
			{"many workers one after the other", *kept, func() error { return r.churn(ctx, p.Hive) }},
			{"workers without cgroups", *workers > 0, func() error { return r.withoutCgroups(ctx, p.Hive, *workers) }},
			{strconv.Itoa(*workers) + " idle workers", *workers > 0, func() error { return r.fleet(ctx, p.Hive, *workers) }},
		} {
			if !part.on {
				continue
			}
			err := r.rest(ctx)
			if err == nil {
				err = part.do()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", part.what, err)
			}
		}
		if err := r.rest(ctx); err != nil {
			return err
		}
		return errors.Join(r.table(os.Stdout), draw(*svg, r.rows()))
	})
}

// goBenchmarks runs go test -bench and keeps every value that it prints.
func (r results) goBenchmarks(ctx context.Context, benchtime string) error {
	args := append([]string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", benchtime}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the product is built: the gate starts with it
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(io.TeeReader(out, os.Stdout))
	for lines.Scan() {
		r.line(lines.Text())
	}
	return errors.Join(lines.Err(), cmd.Wait())
}
