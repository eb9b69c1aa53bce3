package httpapi

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rbeehive/hive"
)

// collector reads the hive when it is scraped: nothing is counted on the path of
// a request or an audit.
type collector struct {
	hive func() *hive.Hive

	leases, workers, findings, audits, audited *prometheus.Desc
}

func newCollector(h func() *hive.Hive) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hive_"+name, help, labels, nil)
	}
	return &collector{
		hive:     h,
		leases:   desc("leases", "Leased ports, by kind of lease and its state.", "kind", "state"),
		workers:  desc("workers", "Workers that have a record, by type and state; ended ones are kept for a while.", "type", "state"),
		findings: desc("audit_findings", "What the last audit has found, by code (docs/audit.md).", "code"),
		audits:   desc("audits_total", "Audits since the start of hive."),
		audited:  desc("audit_timestamp_seconds", "When the last audit began, seconds since 1970; 0: none has run yet."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	h := c.hive()
	if h == nil {
		return
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	report := h.LastAudit()
	codes := map[string]int{}
	for _, code := range hive.FindingCodes() {
		codes[code] = 0 // a series that is not there cannot be alarmed on
	}
	for _, f := range report.Findings {
		codes[f.Code]++
	}
	for code, n := range codes {
		gauge(c.findings, float64(n), code)
	}
	out <- prometheus.MustNewConstMetric(c.audits, prometheus.CounterValue, float64(report.Runs))
	at := 0.0
	if !report.At.IsZero() {
		at = float64(report.At.UnixMilli()) / 1000
	}
	gauge(c.audited, at)
	c.collectRecords(h, gauge)
}

func (c *collector) collectRecords(h *hive.Hive, gauge func(*prometheus.Desc, float64, ...string)) {
	type pair struct{ a, b string }
	workers := map[pair]int{}
	for _, w := range h.Workers() {
		workers[pair{w.Type, hive.PublicState(w.State)}]++
	}
	for k, n := range workers {
		gauge(c.workers, float64(n), k.a, k.b)
	}
	all, err := h.Leases()
	if err != nil {
		return // the other series are true all the same
	}
	leases := map[pair]int{}
	for _, l := range all {
		leases[pair{string(l.Kind), string(l.State)}]++
	}
	for k, n := range leases {
		gauge(c.leases, float64(n), k.a, k.b)
	}
}

// metrics serves the registry of this server; there is no global one.
func (s *Server) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(s.hive.Load), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}
