package httpapi_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/httpapi"
	"rbeehive/store"
)

// BenchmarkGetHive is one small request through all of the middleware, with the
// access log of a daemon that runs as a service.
func BenchmarkGetHive(b *testing.B) { benchmarkGet(b, "/v1/hive") }

// BenchmarkScrape is what Prometheus asks for every few seconds.
func BenchmarkScrape(b *testing.B) { benchmarkGet(b, "/metrics") }

// BenchmarkWorkers is the list of 1,000 workers, none of which changes meanwhile.
func BenchmarkWorkers(b *testing.B) {
	benchmarkGet(b, "/v1/workers", func(tx *store.Tx) (err error) {
		at := time.Now().UTC()
		for i := range 1000 {
			w := store.Worker{
				WorkerID: fmt.Sprintf("cpu-8080-%06x", i), Name: fmt.Sprintf("name-%d", i), Type: "cpu", LeaseID: uuid.NewString(), Port: 8080, Ports: []uint16{8080},
				State: store.WorkerStopped, Desired: store.DesiredStopped, Log: "/nonexistent", StartedAt: at, EndedAt: &at,
			}
			w.Spec.Argv, w.Spec.Host, w.Spec.Model = []string{"/bin/true"}, "127.0.0.1", "test"
			err = errors.Join(err, tx.PutWorker(w))
		}
		return err
	})
}

func benchmarkGet(b *testing.B, path string, before ...func(*store.Tx) error) {
	b.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	types, err := catalog.New(nil, "/nonexistent")
	require.NoError(b, err)
	dir := b.TempDir()
	st, err := store.Open(b.Context(), store.Options{Path: filepath.Join(dir, "hive.db")})
	require.NoError(b, err)
	for _, fn := range before {
		require.NoError(b, st.Update(b.Context(), fn))
	}
	require.NoError(b, st.Close())
	h, err := hive.Open(b.Context(), hive.Config{DataDir: dir, URL: "http://127.0.0.1:1", Catalog: types, Log: log, Version: "test"})
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
