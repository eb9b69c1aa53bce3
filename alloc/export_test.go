package alloc

import (
	"time"

	"rbeehive/alloc/sockets"
)

// Pool is the pool with its marks, for tests of its decisions.
type Pool struct {
	*pool
	marks *marks
}

// NewPool makes a pool on its own.
func NewPool(r Range, policy Policy, reserved ...uint16) Pool {
	p := newPool(r, policy)
	for _, port := range reserved {
		p.blocked.set(port)
	}
	return Pool{pool: p, marks: newMarks(p)}
}

// The classes in the order of the policy lowest.
const (
	ClassUnnamed  = classUnnamed
	ClassFree     = classFree
	ClassForeign  = classForeign
	ClassDraining = classDraining
)

type Class = class

const (
	MarkFirst = markFirst
	MarkMost  = markMost
	DrainTime = drainTime
)

func (p Pool) Take(c class) (uint16, bool)           { return p.take(c, 1, nil) }
func (p Pool) TakeRow(c class, n int) (uint16, bool) { return p.take(c, n, nil) }
func (p Pool) Pick(c class) (uint16, bool)           { return p.pick(c, 1, nil) }
func (p Pool) Rest(port uint16, on bool) {
	if p.resting.clear(port); on {
		p.resting.set(port)
	}
}
func (p Pool) Free(port uint16)                      { p.taken.clear(port) }
func (p Pool) Taken() []uint16                       { return p.taken.ports() }
func (p Pool) Count() int                            { return p.taken.count() }
func (p Pool) Cursor() uint16                        { return p.cursor }
func (p Pool) SetCursor(port uint16)                 { p.cursor = port }
func (p Pool) Remember(name string, port uint16)     { p.remember(name, port) }
func (p Pool) MarkDraining(port uint16, t time.Time) { p.marks.setDraining(port, t) }
func (p Pool) Clear(port uint16)                     { p.marks.clear(port) }
func (p Pool) IsForeign(port uint16) bool            { return p.foreign.has(port) }
func (p Pool) IsDraining(port uint16) bool           { return p.draining.has(port) }

// MarkForeign marks a port as held by the socket with an inode; 0: unseen.
func (p Pool) MarkForeign(port uint16, inode uint64, t time.Time) {
	f := finding{holder: sockets.Holder{Port: port}}
	if inode != 0 {
		f.sockets, f.listed = []sockets.Socket{{State: sockets.Listen, Inode: inode}}, true
	}
	p.marks.setForeign(port, f, t)
}

func (p Pool) Recheck(snap *sockets.Snapshot, t time.Time) { p.marks.recheck(snap, t) }

// ClaimName is the name of the abstract socket that claims a port.
func ClaimName(port uint16) string { return claimName(port) }

// Forget drops what is remembered about strangers' ports.
func (a *Allocator) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for port := range a.marks.byPort {
		a.marks.clear(port)
	}
}

// Until is when a marked port may be looked at again.
func (p Pool) Until(port uint16) time.Time { return p.marks.byPort[port].until }

// Marks is the number of ports of which something is remembered.
func (p Pool) Marks() int { return len(p.marks.byPort) }

// Rests is what keeps released ports of the pool from being picked.
type Rests struct{ *rests }

func (p Pool) Rests(length time.Duration) Rests { return Rests{&rests{pool: p.pool, length: length}} }

func (r Rests) Add(port uint16, at time.Time) { r.add(port, at) }
func (r Rests) Wake(at time.Time)             { r.wake(at) }
