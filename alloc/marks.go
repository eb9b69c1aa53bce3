package alloc

import (
	"maps"
	"slices"
	"time"

	"rbeehive/alloc/sockets"
)

// How long a port that was not free is left alone. Strangers that come and go
// (a supervisor restarting its program) are given time; one that stays is looked
// at ever less often.
const (
	markFirst = time.Second
	markMost  = 30 * time.Second
	// drainTime is how long the kernel keeps residue at most: TCP_TIMEWAIT_LEN
	// and the default of tcp_fin_timeout (tcp(7)) are 60 s, and it may begin
	// to count just after we looked.
	drainTime = 65 * time.Second
	// markForget is when a mark that no longer holds is dropped, and with it how
	// often the port was found in other hands.
	markForget = 10 * time.Minute
)

// mark is why a port is left alone for now.
type mark struct {
	holder  sockets.Holder
	sockets []sockets.Socket // the holder's, until named
	named   bool             // holder has been looked up
	listed  bool             // Table.Snapshot shows the holder, so it also shows that it has gone
	until   time.Time
	wait    time.Duration
}

// of reports whether one of held is a socket for which the port was marked. Inodes
// of sockets come back only after 2^32 others.
func (k *mark) of(held []sockets.Socket) bool {
	return slices.ContainsFunc(held, func(h sockets.Socket) bool {
		return slices.ContainsFunc(k.sockets, func(s sockets.Socket) bool { return s.Inode == h.Inode })
	})
}

// marks remembers ports that were not free, and keeps the pool's foreign and
// draining bits. It has no lock of its own and no clock.
type marks struct {
	pool   *pool
	byPort map[uint16]*mark
}

func newMarks(p *pool) *marks {
	return &marks{pool: p, byPort: make(map[uint16]*mark)}
}

// active returns the mark of a port that is left alone at present, or nil.
func (m *marks) active(port uint16) *mark {
	if !m.pool.foreign.has(port) && !m.pool.draining.has(port) {
		return nil
	}
	return m.byPort[port]
}

// setForeign marks a port as held by a stranger. Each time in a row it waits longer.
func (m *marks) setForeign(port uint16, f finding, now time.Time) {
	wait := markFirst
	// Even if that mark no longer holds: a port that strangers keep taking is tried ever less often.
	if before := m.byPort[port]; before != nil && before.wait > 0 {
		wait = min(2*before.wait, markMost)
	}
	m.byPort[port] = &mark{
		holder:  f.holder,
		sockets: f.sockets,
		named:   f.named,
		listed:  f.listed,
		until:   now.Add(wait),
		wait:    wait,
	}
	m.pool.draining.clear(port)
	m.pool.foreign.set(port)
}

// setDraining marks a port as held by the kernel only.
func (m *marks) setDraining(port uint16, now time.Time) {
	// No growing wait: residue is gone after drainTime.
	m.byPort[port] = &mark{
		holder: sockets.Holder{Port: port, Kind: sockets.KindDraining},
		named:  true,
		until:  now.Add(drainTime),
	}
	m.pool.foreign.clear(port)
	m.pool.draining.set(port)
}

// clear forgets all about a port: it proved to be free.
func (m *marks) clear(port uint16) {
	// The usual case, with each port that is given out.
	if len(m.byPort) == 0 {
		return
	}
	delete(m.byPort, port)
	m.pool.foreign.clear(port)
	m.pool.draining.clear(port)
}

// due reports whether recheck has anything to do.
func (m *marks) due(now time.Time) bool {
	for _, k := range m.byPort {
		if !now.Before(k.until) {
			return true
		}
	}
	return false
}

// recheck looks at the ports whose time is over, in the socket table only: a
// stranger's port is not bound again and again. One that the table still shows
// waits longer; another becomes a candidate again, and is probed when it is its turn.
func (m *marks) recheck(snap *sockets.Snapshot, now time.Time) {
	maps.DeleteFunc(m.byPort, func(port uint16, k *mark) bool {
		if now.Before(k.until) {
			return false
		}
		if m.pool.foreign.has(port) {
			if held := snap.Listeners(port); len(held) > 0 {
				m.still(k, held, now)
				return false
			}
		}
		m.pool.foreign.clear(port)
		m.pool.draining.clear(port)
		// Kept for a while: the next mark waits longer for it.
		return now.Sub(k.until) > markForget
	})
}

// still extends a mark of a port that somebody holds as ever.
func (m *marks) still(k *mark, held []sockets.Socket, now time.Time) {
	k.wait = min(2*k.wait, markMost)
	k.until = now.Add(k.wait)
	k.listed = true
	if !k.of(held) { // somebody else by now
		k.sockets, k.named = held, false
	}
}

// skipped returns the foreign ports of [lo, hi] that can be given out otherwise,
// at most max.
func (m *marks) skipped(lo, hi uint16, max int) []uint16 {
	var out []uint16
	for len(out) < max {
		port, ok := firstOf(func(w int) uint64 { return m.pool.foreign[w] &^ (m.pool.taken[w] | m.pool.blocked[w]) }, lo, hi)
		if !ok {
			break
		}
		out = append(out, port)
		if port == hi {
			break
		}
		lo = port + 1
	}
	return out
}
