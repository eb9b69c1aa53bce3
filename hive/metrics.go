package hive

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rbeehive/hive/audit"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/operation"
	"rbeehive/hive/services"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// otherOperation is the label of jobs that are not carried out here.
const otherOperation = "other"

// scrapeLimit bounds the look at the ports that a scrape takes.
const scrapeLimit = 5 * time.Second

// metrics is what a hive counts while it runs. All of it are atomic additions;
// what can be read when it is asked for is read by collector.
type metrics struct {
	spawns   *prometheus.HistogramVec
	recovery prometheus.Histogram
	restarts *prometheus.CounterVec
	ended    *prometheus.CounterVec

	operations []string
}

func newMetrics() *metrics {
	m := &metrics{
		spawns: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hive_spawn_duration_seconds",
			Help:    "From the beginning of a worker's start, first or again, until its program was executed (started) or it served (ready).",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600},
		}, []string{"until"}),
		recovery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "hive_recovery_duration_seconds",
			Help:    "How long the recovery at the start of hive took; there is one for each run.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30},
		}),
		restarts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hive_worker_restarts_total",
			Help: "Programs of workers that were started again, by worker type and reason.",
		}, []string{"type", "reason"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hive_jobs_ended_total",
			Help: "Jobs that have ended, by operation and how; other: operations that a hive does not carry out.",
		}, []string{"operation", "state"}),
		operations: []string{otherOperation},
	}
	// All series from the start: the first increment of one that appears with it is lost to rate().
	for _, until := range []operation.WaitFor{operation.WaitStarted, operation.WaitReady} {
		m.spawns.WithLabelValues(string(until))
	}
	m.operations = append(m.operations, operation.Tags()...)
	for _, op := range m.operations {
		for _, state := range []store.JobState{store.JobSucceeded, store.JobFailed, store.JobCancelled} {
			m.ended.WithLabelValues(op, string(state))
		}
	}
	return m
}

// Spawned implements supervisor.Metrics.
func (m *metrics) Spawned(until operation.WaitFor, begun time.Time) {
	m.spawns.WithLabelValues(string(until)).Observe(time.Since(begun).Seconds())
}

// Restarted implements supervisor.Metrics.
func (m *metrics) Restarted(workerType string, reason supervisor.Reason) {
	m.restarts.WithLabelValues(workerType, string(reason)).Inc()
}

// JobEnded implements jobs.Metrics.
func (m *metrics) JobEnded(operation string, state store.JobState) {
	// A queen's operations, which all fail here, share one label.
	if !slices.Contains(m.operations, operation) {
		operation = otherOperation
	}
	m.ended.WithLabelValues(operation, string(state)).Inc()
}

// collector tells a registry what the hive has counted, and reads the rest.
type collector struct {
	h *Hive

	info, ports, leases, workers, wanted, reload, jobs  *prometheus.Desc
	findings, audits, audited                           *prometheus.Desc
	commits, commitSize, commitTime, fileBytes, noSpace *prometheus.Desc
}

// Collector returns the metrics of the hive, for the registry of whoever serves
// them (docs/metrics.md). Collecting blocks for a read of the socket table and of
// the leases. It may be collected while the hive is open.
func (h *Hive) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hive_"+name, help, labels, nil)
	}
	return &collector{
		h:          h,
		info:       desc("info", "Always 1; the labels say which hive this is.", "version", "hive_id", "state_id"),
		ports:      desc("ports", "Ports of the range, and leased ones outside it, by what they are now.", "state"),
		leases:     desc("leases", "Leased ports, by kind of lease and its state.", "kind", "state"),
		workers:    desc("workers", "Workers that have a record, by type and state; ended ones are kept for a while.", "type", "state"),
		wanted:     desc("wanted", "Autostart entries that have no worker yet, by what keeps them.", "state"),
		reload:     desc("reload_failed", "1: the last reload of the configuration failed, and hive goes on with the one before."),
		jobs:       desc("jobs", "Jobs that have not ended.", "state"),
		findings:   desc("audit_findings", "What the last audit has found, by code (docs/audit.md).", "code"),
		audits:     desc("audits_total", "Audits since the start of hive."),
		audited:    desc("audit_timestamp_seconds", "When the last audit began, seconds since 1970; 0: none has run yet."),
		commits:    desc("store_commits_total", "Transactions brought to the disk."),
		commitSize: desc("store_commit_size", "How many requests to write one commit took."),
		commitTime: desc("store_commit_duration_seconds", "How long it took to bring a transaction to the disk."),
		fileBytes:  desc("store_file_bytes", "What the state file uses of its file."),
		noSpace:    desc("store_disk_short", "1: the disk is so full that hive refuses new work."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.info, c.ports, c.leases, c.workers, c.wanted, c.reload, c.jobs, c.findings, c.audits, c.audited,
		c.commits, c.commitSize, c.commitTime, c.fileBytes, c.noSpace,
	} {
		out <- d
	}
	m := c.h.metrics
	for _, counted := range []prometheus.Collector{m.spawns, m.recovery, m.restarts, m.ended} {
		counted.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	info := c.h.Info()
	gauge(out, c.info, 1, info.Version, info.HiveID, info.StateID)
	c.collectPorts(out)
	c.collectLeases(out)
	c.collectWorkers(out)
	failed := 0.0
	if c.h.ReloadFault() != "" {
		failed = 1
	}
	gauge(out, c.reload, failed)
	c.collectJobs(out)
	c.collectAudit(out)
	c.collectStore(out)
	m := c.h.metrics
	for _, counted := range []prometheus.Collector{m.spawns, m.recovery, m.restarts, m.ended} {
		counted.Collect(out)
	}
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, n float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
}

func counter(out chan<- prometheus.Metric, d *prometheus.Desc, n float64) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, n)
}

func (c *collector) collectPorts(out chan<- prometheus.Metric) {
	// Collect gets no context; it must not outlast the hive.
	ctx, cancel := context.WithTimeout(c.h.run.Context(), scrapeLimit)
	defer cancel()
	s, err := c.h.alloc.Tally(ctx)
	if err != nil {
		// An error, and not a series less: that would pass for a hive without ports.
		out <- prometheus.NewInvalidMetric(c.ports, err)
		return
	}
	for state, n := range map[string]int{
		"free": s.Free, "leased": s.Leased, "quarantined": s.Quarantined,
		"reserved": s.Reserved, "foreign": s.Foreign, "draining": s.Draining, "forbidden": s.Forbidden,
	} {
		gauge(out, c.ports, float64(n), state)
	}
}

// pair is the values of two labels.
type pair struct{ a, b string }

func (c *collector) collectLeases(out chan<- prometheus.Metric) {
	all, err := c.h.Leases()
	if err != nil {
		out <- prometheus.NewInvalidMetric(c.leases, err)
		return
	}
	leases := map[pair]int{}
	for _, kind := range []store.LeaseKind{store.LeaseWorker, store.LeaseProcess, store.LeaseTTL} {
		for _, state := range []store.LeaseState{store.LeaseHeld, store.LeaseReleasing, store.LeaseQuarantined, store.LeaseUnverified} {
			leases[pair{string(kind), string(state)}] = 0
		}
	}
	for _, l := range all {
		leases[pair{string(l.Kind), string(l.State)}]++
	}
	for k, n := range leases {
		gauge(out, c.leases, float64(n), k.a, k.b)
	}
}

// collectWorkers tells the numbers of every type that is configured, and of those
// that were and still have a worker.
func (c *collector) collectWorkers(out chan<- prometheus.Metric) {
	workers := map[pair]int{}
	for _, typ := range c.h.current.types().Types() {
		for _, state := range []store.WorkerState{
			store.WorkerRunning, store.WorkerLoading, store.WorkerReady, store.WorkerUnhealthy, store.WorkerStopping,
			store.WorkerStopped, store.WorkerFailed, store.WorkerBackoff, store.WorkerUnverified,
		} {
			workers[pair{typ.Name, lifecycle.PublicState(state)}] = 0
		}
		// All series from the start, as in newMetrics; a reload can bring new types.
		for _, reason := range supervisor.Reasons() {
			c.h.metrics.restarts.WithLabelValues(typ.Name, string(reason)) // there from now on
		}
	}
	for _, w := range c.h.Workers() {
		workers[pair{w.Type, lifecycle.PublicState(w.State)}]++
	}
	for k, n := range workers {
		gauge(out, c.workers, float64(n), k.a, k.b)
	}
	wanted := map[services.State]int{}
	for _, v := range c.h.Wanted() {
		wanted[v.State]++
	}
	for _, state := range services.States() {
		gauge(out, c.wanted, float64(wanted[state]), string(state))
	}
}

func (c *collector) collectJobs(out chan<- prometheus.Metric) {
	for state, n := range c.h.jobs.Unfinished() {
		gauge(out, c.jobs, float64(n), string(state))
	}
}

func (c *collector) collectAudit(out chan<- prometheus.Metric) {
	report := c.h.LastAudit()
	codes := map[string]int{}
	for _, code := range audit.FindingCodes() {
		codes[code] = 0 // a series that is not there cannot be alarmed on
	}
	for _, f := range report.Findings {
		codes[f.Code]++
	}
	for code, n := range codes {
		gauge(out, c.findings, float64(n), code)
	}
	counter(out, c.audits, float64(report.Runs))
	at := 0.0
	if !report.At.IsZero() {
		at = float64(report.At.UnixMilli()) / 1000
	}
	gauge(out, c.audited, at)
}

func (c *collector) collectStore(out chan<- prometheus.Metric) {
	st := c.h.store.Stats()
	counter(out, c.commits, float64(st.Commits))
	out <- histogram(c.commitSize, st.CommitSizes)
	out <- histogram(c.commitTime, st.CommitTimes)
	gauge(out, c.fileBytes, float64(st.FileBytes))
	short := 0.0
	if st.DiskShort {
		short = 1
	}
	gauge(out, c.noSpace, short)
}

// histogram turns counts of each bucket into those up to each bound.
func histogram(d *prometheus.Desc, h store.Histogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var n uint64
	for i, bound := range h.Bounds {
		n += h.Counts[i]
		buckets[bound] = n
	}
	return prometheus.MustNewConstHistogram(d, n+h.Counts[len(h.Bounds)], h.Sum, buckets)
}
