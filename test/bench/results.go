package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// results are values by "benchmark unit".
type results map[string]float64

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
