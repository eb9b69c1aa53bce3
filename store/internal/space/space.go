package space

import (
	"errors"
	"math"
	"os"
	"sync/atomic"
)

// errNoPreallocation: the system or the file system cannot allocate ahead.
var errNoPreallocation = errors.New("preallocation is not supported")

// Space decides about a full disk before a commit. bbolt writes into a sparse
// file, so without it a full disk is found out in the middle of a commit, which
// then has failed and stops the daemon.
//
// Blocks are allocated beyond bbolt's high-water mark without changing the file's length.
// New pages come from bbolt's free pages or from that tail; only the tail is certain to
// serve a request for several contiguous pages. Where blocks cannot be allocated ahead, the
// free space of the file system stands for the tail, which others may use up at any moment.
//
// Only the writer uses it, except for what is atomic.
type Space struct {
	file      *os.File
	pageSize  int64
	ahead     int64 // bytes to keep allocated beyond the high-water mark
	allocated atomic.Int64
	estimated bool // no preallocation: allocated is the high-water mark plus free disk space
	unknown   bool // not even that is known: everything is admitted
	isShort   atomic.Bool
}

// Work is what a transaction has written.
type Work struct {
	Keys  int64
	Bytes int64 // of keys and values
}

// New allocates the holes of the file and the tail. A full disk is no error: then
// nothing is admitted that would need more.
func New(file *os.File, pageSize, ahead, highWater int64) *Space {
	s := &Space{file: file, pageSize: pageSize, ahead: ahead}
	s.grow(highWater, ahead)
	return s
}

// Allocated is how many bytes are allocated to the file, or could be.
func (s *Space) Allocated() int64 { return s.allocated.Load() }

// Short reports whether the tail is below the watermark.
func (s *Space) Short() bool { return s.isShort.Load() }

// Prepare tops the tail up and reports whether ordinary work is admitted:
// the tail and the free pages together reach the watermark, which is half of
// what is kept ahead, and a quarter of the watermark is tail.
func (s *Space) Prepare(highWater, freePages int64) bool {
	if s.unknown {
		return true
	}
	watermark := s.ahead / 2
	// Counted space is asked for each time: others use it, too.
	if s.tail(highWater) < watermark || s.estimated {
		s.grow(highWater, s.ahead)
	}
	tail := s.tail(highWater)
	s.isShort.Store(tail < watermark)
	// Free pages alone do not do: they need not be neighbours.
	return tail+freePages*s.pageSize >= watermark && tail >= watermark/4
}

// Fits reports whether a commit of this work finds its pages, allocating more if necessary.
func (s *Space) Fits(highWater, freePages int64, w Work) bool {
	if s.unknown {
		return true
	}
	pages, run := s.need(highWater, freePages, w)
	missing := max(run*s.pageSize, (pages-freePages)*s.pageSize)
	if missing <= s.tail(highWater) {
		return true
	}
	// More, for this commit.
	s.grow(highWater, missing)
	return missing <= s.tail(highWater)
}

// need is an upper bound of the pages a commit takes, and of those among them
// that must be neighbours. A written key dirties its leaf, at most four levels
// above it and, when they shrink, a sibling each; but never more than two pages
// for each one in use. Values add what they are long, twice because bbolt fills
// a split page to one half. The freelist takes 8 bytes for each free page.
func (s *Space) need(highWater, freePages int64, w Work) (pages, run int64) {
	used := max(highWater/s.pageSize-freePages, 8)
	values := 2*w.Bytes/s.pageSize + 2
	tree := min(10*w.Keys, 2*used) + values
	freelist := (freePages+tree)*8/s.pageSize + 2
	return tree + freelist, freelist + values
}

func (s *Space) tail(highWater int64) int64 {
	if s.unknown {
		return math.MaxInt64
	}
	return s.allocated.Load() - highWater
}

// growStep is how much is allocated in one call when the whole cannot be had.
const growStep = 256 << 10

// grow allocates that much beyond the high-water mark, or as far as the disk
// allows.
func (s *Space) grow(highWater, ahead int64) {
	if s.estimated {
		s.count(highWater)
		return
	}
	from, length := s.allocated.Load(), highWater+ahead
	if from >= length {
		return
	}
	err := allocate(s.file, from, length-from)
	if errors.Is(err, errNoPreallocation) {
		s.estimated = true
		s.count(highWater)
		return
	}
	// As much of it as there is.
	for err != nil && from < length {
		n := min(growStep, length-from)
		if allocate(s.file, from, n) != nil {
			break
		}
		from += n
	}
	if err == nil {
		from = length
	}
	s.allocated.Store(from)
}

// count takes the free space of the file system for the tail.
func (s *Space) count(highWater int64) {
	free, err := Free(s.file)
	if err != nil {
		// Where the system says nothing, all is admitted rather than nothing.
		s.unknown = true
		return
	}
	s.allocated.Store(highWater + free)
}
