package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// series is one thing that must not grow.
type series struct {
	key   string // in the CSV file
	title string
	unit  string
	of    func(look) float64 // NaN: it was not looked at
	// What the last third may have more than the middle one: a part of that, and so much.
	share, slack float64
}

const mib = 1 << 20

// allSeries is what is looked at, with what each may rise by.
//
// A median of a third moves by chance. It does so with its size, for which there is a share,
// of a twentieth to a tenth: the load is random, and there are a few workers, connections
// or jobs more in one third than in another. What is taken in steps moves by a step, for
// which there is a slack: the runtime lets the heap become twice what lives on it, a large
// answer that is encoded at the wrong moment is some MiB; the state file is lengthened by
// 4 MiB; threads are not given back, and one more is made when one more is blocked; a
// rotated log has 64 KiB, and one worker has two. CPU time is also a matter of what else
// the machine does: caches and frequencies, not waiting.
var allSeries = []series{
	{"rss_mib", "resident memory", "MiB", func(l look) float64 { return l.status["VmRSS"] / mib }, .05, 6},
	{"rss_anon_mib", "resident memory, anonymous", "MiB", func(l look) float64 { return l.status["RssAnon"] / mib }, .05, 6},
	{"descriptors", "open descriptors", "", func(l look) float64 { return float64(l.fds) }, .05, 16},
	{"threads", "threads", "", func(l look) float64 { return l.status["Threads"] }, .05, 4},
	{"goroutines", "goroutines", "", func(l look) float64 { return float64(l.goroutines) }, .05, 20},
	{"children", "child processes, ended ones too", "", func(l look) float64 { return float64(l.children) }, .05, 10},
	{"cpu_percent", "CPU time", "% of a core", func(l look) float64 { return l.busy }, .25, 3},
	{"db_mib", "hive.db, length", "MiB", func(l look) float64 { return float64(l.db.bytes) / mib }, .1, 4},
	{"db_blocks_mib", "hive.db, on the disk", "MiB", func(l look) float64 { return float64(l.db.blocks) / mib }, .1, 4},
	{"data_mib", "data directory, length", "MiB", func(l look) float64 { return float64(l.data.bytes) / mib }, .1, 6},
	{"data_blocks_mib", "data directory, on the disk", "MiB", func(l look) float64 { return float64(l.data.blocks) / mib }, .1, 6},
	{"log_files", "log files", "", func(l look) float64 { return float64(l.logs.files) }, .1, 20},
	{"logs_mib", "logs, length", "MiB", func(l look) float64 { return float64(l.logs.bytes) / mib }, .1, 1},
	{"logs_blocks_mib", "logs, on the disk", "MiB", func(l look) float64 { return float64(l.logs.blocks) / mib }, .1, 1},
	records("jobs", 50),
	records("events", 100),
	records("ended", 200),
	records("workers", 30),
	records("names", 5),
	records("keys", 15),
}

func records(bucket string, slack float64) series {
	return series{"records_" + bucket, "records in " + bucket, "", func(l look) float64 {
		if l.records == nil {
			return math.NaN()
		}
		return float64(l.records[bucket])
	}, .05, slack}
}

// observations is all looks at one hive.
type observations struct {
	warmUp, end time.Duration // of the run
	at          []time.Duration
	looks       []look
}

// medians returns the medians of a series: of the warm-up, and of the two halves of what
// follows. NaN: it was not looked at.
func (o observations) medians(s series) (first, middle, last float64) {
	var thirds [3][]float64
	for i, at := range o.at {
		v := s.of(o.looks[i])
		n := 0
		switch {
		case math.IsNaN(v):
			continue
		case at >= (o.warmUp+o.end)/2:
			n = 2
		case at >= o.warmUp:
			n = 1
		}
		thirds[n] = append(thirds[n], v)
	}
	return median(thirds[0]), median(thirds[1]), median(thirds[2])
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// verdict is what was found of a series.
type verdict struct {
	series
	first, middle, last float64 // medians of the thirds
	most                float64 // what the last may be
}

// judge compares the last third with the middle one.
func (s series) judge(o observations) (v verdict) {
	v.series = s
	v.first, v.middle, v.last = o.medians(s)
	v.most = v.middle*(1+s.share) + s.slack
	return v
}

// grows is what is wrong; empty: nothing. What was not seen has not shown that it is flat.
func (v verdict) grows() string {
	switch {
	case math.IsNaN(v.middle) || math.IsNaN(v.last):
		return fmt.Sprintf("%s: it was not looked at in each third of the run", v.title)
	case v.last > v.most:
		return fmt.Sprintf("%s: %.1f in the middle third and %.1f in the last, where %.1f is allowed (%s)", v.title, v.middle, v.last, v.most, v.key)
	}
	return ""
}

func (v verdict) String() string {
	return fmt.Sprintf("%-32s %-12s %9.1f %9.1f %9.1f %9.1f", v.title, v.unit, v.first, v.middle, v.last, v.most)
}

// judge prints the medians of all series, and reports those that grow.
func (r *run) judge(o observations) {
	r.p.Printf("%-32s %-12s %9s %9s %9s %9s", "medians of the thirds", "", "warm-up", "middle", "last", "at most")
	for _, s := range allSeries {
		v := s.judge(o)
		r.p.Printf("%s", v)
		if wrong := v.grows(); wrong != "" {
			r.tally.Violation("GROWTH", "%s", wrong)
		}
	}
}
