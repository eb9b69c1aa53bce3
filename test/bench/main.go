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
	"text/tabwriter"

	"rbeehive/test/harness"
)

// packages have benchmarks.
var packages = []string{"./store", "./alloc", "./hive/proc", "./hive"}

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

// results are values by "benchmark unit".
type results map[string]float64

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

// line reads "BenchmarkName-2  100  123 ns/op  4 B/op".
func (r results) line(s string) {
	f := strings.Fields(s)
	if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
		return
	}
	name := strings.TrimPrefix(f[0], "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		name = name[:i] // the number of processors
	}
	for i := 2; i+1 < len(f); i += 2 {
		if v, err := strconv.ParseFloat(f[i], 64); err == nil {
			r[name+" "+f[i+1]] = v
		}
	}
}

// target is one row of the table: what should be, computed from what was
// measured in the same run.
type target struct {
	what  string
	value func(results) (float64, bool)
	limit float64
	unit  string
	least bool // the limit is a lower bound
}

// value of one measurement.
func one(key string) func(results) (float64, bool) {
	return func(r results) (float64, bool) { v, ok := r[key]; return v, ok }
}

// difference of two measurements, scaled.
func difference(a, b string, scale float64) func(results) (float64, bool) {
	return func(r results) (float64, bool) {
		x, ok := r[a]
		y, ok2 := r[b]
		return (x - y) * scale, ok && ok2
	}
}

// ratio of two measurements.
func ratio(a, b string) func(results) (float64, bool) {
	return func(r results) (float64, bool) {
		x, ok := r[a]
		y, ok2 := r[b]
		return x / y, ok && ok2 && y != 0
	}
}

// row is a target with what was measured.
type row struct {
	target
	got     float64
	verdict string // met, missed, or that others disturbed the machine
}

// rows are the targets that were measured.
func (r results) rows() (list []row) {
	for _, t := range targets {
		v, ok := t.value(r)
		if !ok {
			continue
		}
		verdict := "met"
		switch {
		case !r.quiet():
			verdict = "busy machine"
		case t.least && v < t.limit, !t.least && v > t.limit:
			verdict = "MISSED"
		}
		list = append(list, row{t, v, verdict})
	}
	return list
}

func (t target) bound() string {
	if t.least {
		return fmt.Sprintf("at least %.4g", t.limit)
	}
	return fmt.Sprintf("at most %.4g", t.limit)
}

// table prints what was measured. What was left out has no row.
func (r results) table(out io.Writer) error {
	if !r.quiet() {
		fmt.Fprintf(out, "\nThis machine was busy: others used %.2f of its cores while the bench rested. No value is a fact about hive.\n", r["others cores"])
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nMEASURED\tVALUE\tTARGET\t")
	for _, row := range r.rows() {
		fmt.Fprintf(w, "%s\t%.4g %s\t%s\t%s\n", row.what, row.got, row.unit, row.bound(), row.verdict)
	}
	return w.Flush()
}
