package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// report is the table of measures, and what they consist of.
type report struct {
	rows    []row
	details []detail
}

// row is a measure. A target that is empty is none: the number is only to be known.
type row struct {
	measure, value, target string
	met                    bool
}

type detail struct {
	title string
	lines []string // columns separated by tabs
}

// atMost adds a measure that should not be larger than its target.
func (r *report) atMost(measure string, value, target int) {
	r.rows = append(r.rows, row{measure, fmt.Sprint(value), fmt.Sprintf("at most %d", target), value <= target})
}

// between adds a measure that has a range.
func (r *report) between(measure string, value, low, high float64) {
	r.rows = append(r.rows, row{measure, fmt.Sprintf("%.2f", value), fmt.Sprintf("%g to %g", low, high), low <= value && value <= high})
}

// atLeast adds a measure that should not be smaller than its target.
func (r *report) atLeast(measure string, value, target float64) {
	r.rows = append(r.rows, row{measure, fmt.Sprintf("%.1f", value), fmt.Sprintf("at least %g", target), value >= target})
}

// known adds a measure without a target.
func (r *report) known(measure, value string) {
	r.rows = append(r.rows, row{measure: measure, value: value})
}

func (r *report) detail(title string, lines []string) {
	if len(lines) > 0 {
		r.details = append(r.details, detail{title, lines})
	}
}

func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measure\tnow\ttarget\t")
	for _, m := range r.rows {
		verdict := "no"
		switch {
		case m.target == "":
			verdict = ""
		case m.met:
			verdict = "ok"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.measure, m.value, m.target, verdict)
	}
	for _, d := range r.details {
		fmt.Fprintf(w, "\n%s\n", d.title)
		for _, line := range d.lines {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	return w.Flush()
}
