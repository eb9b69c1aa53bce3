package gateway

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are by route, never by what a caller has called a model.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	inFlight  *prometheus.GaugeVec
	firstByte *prometheus.HistogramVec
	retries   *prometheus.CounterVec
	unproven  prometheus.Counter
	tables    prometheus.Counter
}

// noRoute is the route of requests that lead nowhere.
const noRoute = "none"

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hive_gateway_requests_total", Help: "Requests that were answered, by route and HTTP status; the status is 0 where the client went away or the connection was cut.",
		}, []string{"route", "code"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "hive_gateway_in_flight", Help: "Requests whose answer has not ended.",
		}, []string{"route"}),
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hive_gateway_first_byte_seconds", Help: "From the request until the worker's answer began.",
			Buckets: []float64{.005, .02, .1, .5, 1, 2, 5, 10, 30, 60, 120},
		}, []string{"route"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hive_gateway_retries_total", Help: "Requests that were tried again before anything of their answer had come.",
		}, []string{"route"}),
		unproven: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hive_gateway_unproven_total", Help: "Connections that were not made because other sockets listened than the worker's.",
		}),
		tables: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hive_gateway_tables_total", Help: "Tables of routes that were taken from hive.",
		}),
	}
	m.registry.MustRegister(m.requests, m.inFlight, m.firstByte, m.retries, m.unproven, m.tables)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
