//go:build linux

package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

func benchLease(port uint16, id string) store.Lease {
	return store.Lease{
		Port: port, LeaseID: id, Kind: store.LeaseProcess, Owner: "bench", State: store.LeaseHeld,
		Identity:   &store.Identity{BootID: "8c1ff0f7-3a8b-4c7e-9e3c-0d3f3f0b7a11", PID: 100000 + int(port), StartTicks: 123456789},
		AcquiredAt: time.Now().UTC(),
	}
}

// acquireRelease is one durable acquire and one durable release.
func acquireRelease(ctx context.Context, s *store.Store, l store.Lease) error {
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.PutLease(l) }); err != nil {
		return err
	}
	return s.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.EndLease(l.Port, l.LeaseID)
		return err
	})
}

// floorFile is where the floor is measured: blocks that have been written
// before, as those of a state file in use have been.
func floorFile(b *testing.B) *os.File {
	f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
	require.NoError(b, err)
	b.Cleanup(func() { _ = f.Close() })
	_, err = f.Write(make([]byte, 1<<20))
	require.NoError(b, err)
	require.NoError(b, f.Sync())
	return f
}

func p50(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkAcquireRelease is one caller: a durable acquire and a durable
// release, which are two commits. The floor, measured in turn with it, is four
// bare writes of 4 KiB, each with an fdatasync: what two commits of bbolt
// cannot do without. Target: ratio at most 1.6.
func BenchmarkAcquireRelease(b *testing.B) {
	s := storetest.Open(b)
	f := floorFile(b)
	page := make([]byte, 4096)
	var took, floor []time.Duration
	before := s.Stats()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		require.NoError(b, acquireRelease(b.Context(), s, benchLease(8080, fmt.Sprintf("lease-%d", i))))
		took = append(took, time.Since(start))

		b.StopTimer()
		start = time.Now()
		for pair := range 4 {
			_, err := f.WriteAt(page, int64((4*i+pair)%256)*4096)
			require.NoError(b, err)
			require.NoError(b, fdatasync(f))
		}
		floor = append(floor, time.Since(start))
		b.StartTimer()
	}
	after := s.Stats()
	b.ReportMetric(float64(p50(took).Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(p50(floor).Nanoseconds()), "floor-p50-ns")
	b.ReportMetric(float64(p50(took))/float64(p50(floor)), "x-floor")
	b.ReportMetric(float64(after.Commits-before.Commits)/float64(after.Operations-before.Operations), "commits/op")
}

// BenchmarkAcquireRelease64 is 64 callers. An operation is an acquire and a
// release. Targets: at most 1/16 of the commits that one caller needs for each
// of its calls, and at least 5 times one caller's rate, which is measured first.
func BenchmarkAcquireRelease64(b *testing.B) {
	const callers = 64
	s := storetest.Open(b)
	alone := aloneRate(b, s)
	var mu sync.Mutex
	var took []time.Duration
	var next atomic.Int64
	before := s.Stats()
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			var mine []time.Duration
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				start := time.Now()
				if err := acquireRelease(b.Context(), s, benchLease(uint16(8080+c), fmt.Sprintf("lease-%d", i))); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wg.Wait()
	b.StopTimer()
	after := s.Stats()
	rate := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(float64(p50(took).Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(after.Commits-before.Commits)/float64(after.Operations-before.Operations), "commits/call")
	b.ReportMetric(rate, "op/s")
	b.ReportMetric(rate/alone, "x-alone")
}

// aloneRate is how many operations a second one caller does.
func aloneRate(b *testing.B, s *store.Store) float64 {
	const n = 200
	start := time.Now()
	for i := range n {
		require.NoError(b, acquireRelease(b.Context(), s, benchLease(9000, fmt.Sprintf("alone-%d", i))))
	}
	return n / time.Since(start).Seconds()
}

// BenchmarkOpen opens a file with 1,920 leases and workers, which is part of
// what a restart takes.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "hive.db")
	s, err := store.Open(b.Context(), store.Options{Path: path})
	require.NoError(b, err)
	require.NoError(b, s.Update(b.Context(), func(tx *store.Tx) error {
		for port := uint16(8080); port <= 9999; port++ {
			if err := putWorker(tx, port); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(b, s.Close())
	b.ResetTimer()
	for b.Loop() {
		s, err := store.Open(b.Context(), store.Options{Path: path})
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, s.Close())
		b.StartTimer()
	}
}
