package store

import "sync"

// Stats counts what the store did since it was opened, and describes the file.
type Stats struct {
	Commits    uint64 // transactions on the disk
	Operations uint64 // calls of Update and UpdateReserved in them
	MaxGroup   int    // most operations in one commit

	PageSize       int   // bytes
	FileBytes      int64 // what bbolt uses of the file
	AllocatedBytes int64 // what is allocated to it, or could be (no preallocation)
	FreePages      int   // inside FileBytes, to be used again
	PendingPages   int   // freed, still seen by a running View
	DiskShort      bool  // less than half of Options.Preallocate is allocated ahead
}

// Stats returns the present figures; after Close only what was counted. It
// opens a short View.
func (s *Store) Stats() Stats {
	var st Stats
	s.counters.read(&st)
	err := s.View(func(tx *Tx) error {
		st.FileBytes = tx.btx.Size()
		return nil
	})
	if err != nil {
		return st // closed: there is no file to describe
	}
	pages := s.db.Stats()
	st.PageSize = int(s.space.pageSize)
	st.FreePages, st.PendingPages = pages.FreePageN, pages.PendingPageN
	st.AllocatedBytes, st.DiskShort = s.space.allocated.Load(), s.space.short()
	return st
}

// DiskFree is how many bytes the file system of the state file has left for
// those who are not root. It does not tell whether new work is admitted: what is
// allocated ahead counts for that. An error where the system does not say.
func (s *Store) DiskFree() (int64, error) { return freeSpace(s.file) }

// counters is the part of Stats that the writer counts.
type counters struct {
	mu         sync.Mutex
	commits    uint64
	operations uint64
	maxGroup   int
}

func (c *counters) committed(operations int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commits++
	c.operations += uint64(operations)
	c.maxGroup = max(c.maxGroup, operations)
}

func (c *counters) read(st *Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Commits, st.Operations, st.MaxGroup = c.commits, c.operations, c.maxGroup
}
