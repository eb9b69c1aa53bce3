package store

import (
	"slices"
	"sync"
	"time"

	"rbeehive/store/internal/space"
)

// Stats counts what the store did since it was opened, and describes the file.
type Stats struct {
	Commits    uint64 // transactions on the disk
	Operations uint64 // calls of Update and UpdateReserved in them
	MaxGroup   int    // most operations in one commit

	CommitSizes Histogram // operations in one commit
	CommitTimes Histogram // seconds that bbolt took to bring one to the disk

	PageSize       int   // bytes
	FileBytes      int64 // what bbolt uses of the file
	AllocatedBytes int64 // what is allocated to it, or could be (no preallocation)
	FreePages      int   // inside FileBytes, to be used again
	PendingPages   int   // freed, still seen by a running View
	DiskShort      bool  // less than half of Options.Preallocate is allocated ahead
}

// Histogram counts values by size. Counts has one number more than Bounds: the
// first of them counts values up to the first bound, the last those above all.
type Histogram struct {
	Bounds []float64 // ascending; not to be changed
	Counts []uint64
	Sum    float64
}

func newHistogram(bounds ...float64) Histogram {
	return Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds)+1)}
}

func (h *Histogram) observe(v float64) {
	i, _ := slices.BinarySearch(h.Bounds, v)
	h.Counts[i]++
	h.Sum += v
}

func (h *Histogram) clone() Histogram {
	return Histogram{h.Bounds, slices.Clone(h.Counts), h.Sum}
}

// Stats returns the present figures; after Close only what was counted. It
// opens a short View.
func (s *Store) Stats() Stats {
	var st Stats
	s.counters.read(&st)
	err := s.View(func(tx *Tx) error {
		st.FileBytes = tx.kv.Bolt().Size()
		return nil
	})
	if err != nil {
		return st // closed: there is no file to describe
	}
	pages := s.db.Stats()
	st.PageSize = s.db.Info().PageSize
	st.FreePages, st.PendingPages = pages.FreePageN, pages.PendingPageN
	st.AllocatedBytes, st.DiskShort = s.space.Allocated(), s.space.Short()
	return st
}

// DiskFree is how many bytes the file system of the state file has left for
// those who are not root. It does not tell whether new work is admitted: what is
// allocated ahead counts for that. An error where the system does not say.
func (s *Store) DiskFree() (int64, error) { return space.Free(s.file) }

// counters is the part of Stats that the writer counts.
type counters struct {
	mu         sync.Mutex
	commits    uint64
	operations uint64
	maxGroup   int
	sizes      Histogram
	times      Histogram
}

func newCounters() counters {
	return counters{
		sizes: newHistogram(1, 2, 4, 8, 16, 32, 64, maxBatch),
		times: newHistogram(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10),
	}
}

func (c *counters) committed(operations int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commits++
	c.operations += uint64(operations)
	c.maxGroup = max(c.maxGroup, operations)
	c.sizes.observe(float64(operations))
	c.times.observe(took.Seconds())
}

func (c *counters) read(st *Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Commits, st.Operations, st.MaxGroup = c.commits, c.operations, c.maxGroup
	st.CommitSizes, st.CommitTimes = c.sizes.clone(), c.times.clone()
}
