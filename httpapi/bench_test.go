package httpapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/httpapi"
)

// BenchmarkGetHive is one small request through all of the middleware, with the
// access log of a daemon that runs as a service.
func BenchmarkGetHive(b *testing.B) { benchmarkGet(b, "/v1/hive") }

// BenchmarkScrape is what Prometheus asks for every few seconds.
func BenchmarkScrape(b *testing.B) { benchmarkGet(b, "/metrics") }

func benchmarkGet(b *testing.B, path string) {
	b.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	types, err := catalog.New(nil, "/nonexistent")
	require.NoError(b, err)
	h, err := hive.Open(b.Context(), hive.Config{DataDir: b.TempDir(), URL: "http://127.0.0.1:1", Catalog: types, Log: log, Version: "test"})
	require.NoError(b, err)
	defer func() { require.NoError(b, h.Close()) }()
	require.NoError(b, h.Recover(b.Context()))
	server := httpapi.New(httpapi.Options{Access: anyone(), Log: log})
	server.SetHive(h)
	handler := server.Handler()
	r := localRequest(http.MethodGet, path)
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		if rec.Code != http.StatusOK {
			b.Fatal(rec.Code)
		}
	}
}
