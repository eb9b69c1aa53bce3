package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"
)

// Labels for what callers can make up, so that they cannot make series.
const (
	otherLabel   = "other"   // a path or a method that we do not know
	abortedLabel = "aborted" // the status of an answer that its client did not get
)

// traffic is what is counted of the requests. Its labels are the routes' own
// templates, the methods of HTTP, and the statuses that we answer with.
type traffic struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	streams  prometheus.Gauge
}

func newTraffic() *traffic {
	return &traffic{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hive_http_requests_total",
			Help: "Requests that have ended, by route, method and status; streams count at their end.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hive_http_request_duration_seconds",
			Help:    "How long requests took, without streams and those that were asked to wait.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "method"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "hive_http_streams",
			Help: "Answers under way that have no end of their own: events, and logs.",
		}),
	}
}

// count takes up a request that has ended; by is who aborted it.
func (t *traffic) count(rec *recorder, method, by string, took time.Duration) {
	method = methodLabel(method)
	if rec.streams {
		t.streams.Dec()
	}
	status := strconv.Itoa(rec.status)
	if by == byHive || (by == byClient && !rec.streams) {
		// What we would have answered is no sign of a fault: a client that goes
		// while it waits gets a 503 that it never sees.
		status = abortedLabel
	}
	t.requests.WithLabelValues(rec.route, method, status).Inc()
	if !rec.streams && !rec.waits {
		t.duration.WithLabelValues(rec.route, method).Observe(took.Seconds())
	}
}

var knownMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

func methodLabel(method string) string {
	if slices.Contains(knownMethods, method) {
		return method
	}
	return otherLabel
}

// newRegistry makes the registry of one server; there is no global one. That of
// the hive comes in with SetHive.
func newRegistry(t *traffic, dropped func() uint64) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	if dropped != nil {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "hive_log_lines_dropped_total", Help: "Lines of hive's log that were dropped, because nobody read them.",
		}, func() float64 { return float64(dropped()) }))
	}
	registry.MustRegister(t.requests, t.duration, t.streams,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// scrapeLog takes what a scrape could not find out.
type scrapeLog struct{ log *logrus.Logger }

func (l scrapeLog) Println(v ...any) { l.log.WithField("route", "/metrics").Warn(v...) }

// newExposition is the handler of /metrics. What cannot be found out is missing
// in the answer and logged; the other series are true all the same.
func newExposition(registry *prometheus.Registry, log *logrus.Logger) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: scrapeLog{log},
	})
}
