package alloc

import (
	"time"

	"rbeehive/alloc/sockets"
)

// Pool is the pool with its avoid list, for tests of its decisions.
type Pool struct {
	*pool
	avoid *avoidList
}

// NewPool makes a pool on its own.
func NewPool(r Range, policy Policy, reserved ...uint16) Pool {
	p := newPool(r, policy)
	for _, port := range reserved {
		p.blocked.set(port)
	}
	return Pool{pool: p, avoid: newAvoidList(p)}
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
	AvoidMin  = avoidMin
	AvoidMax  = avoidMax
	DrainTime = drainTime
)

func (p Pool) Take(c class) (uint16, bool)                   { return p.take(c, 1, nil) }
func (p Pool) TakeConsecutive(c class, n int) (uint16, bool) { return p.take(c, n, nil) }
func (p Pool) Pick(c class) (uint16, bool)                   { return p.pick(c, 1, nil) }
func (p Pool) SetCooling(port uint16, on bool) {
	if p.cooling.clear(port); on {
		p.cooling.set(port)
	}
}
func (p Pool) Free(port uint16)                       { p.taken.clear(port) }
func (p Pool) Taken() []uint16                        { return p.taken.ports() }
func (p Pool) Count() int                             { return p.taken.count() }
func (p Pool) Cursor() uint16                         { return p.cursor }
func (p Pool) SetCursor(port uint16)                  { p.cursor = port }
func (p Pool) Remember(name string, port uint16)      { p.remember(name, port) }
func (p Pool) AvoidDraining(port uint16, t time.Time) { p.avoid.setDraining(port, t) }
func (p Pool) Clear(port uint16)                      { p.avoid.clear(port) }
func (p Pool) IsForeign(port uint16) bool             { return p.foreign.has(port) }
func (p Pool) IsDraining(port uint16) bool            { return p.draining.has(port) }

// AvoidForeign avoids a port as held by the socket with an inode; 0: unseen.
func (p Pool) AvoidForeign(port uint16, inode uint64, t time.Time) {
	f := finding{holder: sockets.Holder{Port: port}}
	if inode != 0 {
		f.sockets, f.listed = []sockets.Socket{{State: sockets.Listen, Inode: inode}}, true
	}
	p.avoid.setForeign(port, f, t)
}

func (p Pool) Recheck(snap *sockets.Snapshot, t time.Time) { p.avoid.recheck(snap, t) }

// ClaimName is the name of the abstract socket that claims a port.
func ClaimName(port uint16) string { return claimName(port) }

// Forget drops what is remembered about foreign ports.
func (a *Allocator) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for port := range a.avoid.byPort {
		a.avoid.clear(port)
	}
}

// Until is when an avoided port is due for a recheck.
func (p Pool) Until(port uint16) time.Time { return p.avoid.byPort[port].until }

// Avoided is the number of ports in the avoid list.
func (p Pool) Avoided() int { return len(p.avoid.byPort) }

// Cooldown is what keeps released ports of the pool from being picked.
type Cooldown struct{ *cooldown }

func (p Pool) NewCooldown(length time.Duration) Cooldown {
	return Cooldown{&cooldown{pool: p.pool, duration: length}}
}

func (r Cooldown) Add(port uint16, at time.Time) { r.add(port, at) }
func (r Cooldown) Expire(at time.Time)           { r.expire(at) }
