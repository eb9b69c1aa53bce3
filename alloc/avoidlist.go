package alloc

import (
	"maps"
	"slices"
	"time"

	"rbeehive/alloc/sockets"
)

// How long a port that was not free is avoided. Programs that come and go (under a
// supervisor that restarts them) are given time; the port of one that stays is checked ever
// less often.
const (
	avoidMin = time.Second
	avoidMax = 30 * time.Second
	// drainTime is how long the kernel keeps residue at most: TCP_TIMEWAIT_LEN and the
	// default of tcp_fin_timeout (tcp(7)) are 60 s, and it may begin to count just after
	// the check.
	drainTime = 65 * time.Second
	// avoidRetention is when an expired entry is dropped, and with it how often the port
	// was found foreign.
	avoidRetention = 10 * time.Minute
)

// avoidEntry is why a port is avoided for now.
type avoidEntry struct {
	holder   sockets.Holder
	sockets  []sockets.Socket // the holder's, until resolved
	resolved bool             // holder is complete
	listed   bool             // Table.Snapshot shows the holder, so it also shows that it has gone
	until    time.Time
	backoff  time.Duration
}

// sameSocket reports whether one of held is a socket for which the port is avoided. Inodes
// of sockets repeat only after 2^32 others.
func (k *avoidEntry) sameSocket(held []sockets.Socket) bool {
	return slices.ContainsFunc(held, func(h sockets.Socket) bool {
		return slices.ContainsFunc(k.sockets, func(s sockets.Socket) bool { return s.Inode == h.Inode })
	})
}

// avoidList remembers ports that were not free, and maintains the pool's foreign and
// draining bits. It has no lock of its own and no clock.
type avoidList struct {
	pool   *pool
	byPort map[uint16]*avoidEntry
}

func newAvoidList(p *pool) *avoidList {
	return &avoidList{pool: p, byPort: make(map[uint16]*avoidEntry)}
}

// active returns the entry of a port that is avoided at present, or nil.
func (m *avoidList) active(port uint16) *avoidEntry {
	if !m.pool.foreign.has(port) && !m.pool.draining.has(port) {
		return nil
	}
	return m.byPort[port]
}

// setForeign avoids a port that another program holds. The backoff doubles each time in a
// row.
func (m *avoidList) setForeign(port uint16, f finding, now time.Time) {
	backoff := avoidMin
	if before := m.byPort[port]; before != nil && before.backoff > 0 {
		backoff = min(2*before.backoff, avoidMax)
	}
	m.byPort[port] = &avoidEntry{
		holder:   f.holder,
		sockets:  f.sockets,
		resolved: f.resolved,
		listed:   f.listed,
		until:    now.Add(backoff),
		backoff:  backoff,
	}
	m.pool.draining.clear(port)
	m.pool.foreign.set(port)
}

// setDraining avoids a port that only the kernel holds.
func (m *avoidList) setDraining(port uint16, now time.Time) {
	m.byPort[port] = &avoidEntry{
		holder:   sockets.Holder{Port: port, Kind: sockets.KindDraining},
		resolved: true,
		until:    now.Add(drainTime),
	}
	m.pool.foreign.clear(port)
	m.pool.draining.set(port)
}

// clear removes the entry of a port that proved to be free.
func (m *avoidList) clear(port uint16) {
	if len(m.byPort) == 0 {
		return
	}
	delete(m.byPort, port)
	m.pool.foreign.clear(port)
	m.pool.draining.clear(port)
}

// due reports whether recheck has anything to do.
func (m *avoidList) due(now time.Time) bool {
	for _, k := range m.byPort {
		if !now.Before(k.until) {
			return true
		}
	}
	return false
}

// recheck checks the ports whose backoff has ended, in the socket table only: a foreign
// port is not bound again and again. One that the table still shows is avoided for longer;
// another becomes a candidate again, and is probed when it is its turn.
func (m *avoidList) recheck(snap *sockets.Snapshot, now time.Time) {
	maps.DeleteFunc(m.byPort, func(port uint16, k *avoidEntry) bool {
		if now.Before(k.until) {
			return false
		}
		if m.pool.foreign.has(port) {
			if held := snap.Listeners(port); len(held) > 0 {
				m.extend(k, held, now)
				return false
			}
		}
		m.pool.foreign.clear(port)
		m.pool.draining.clear(port)
		return now.Sub(k.until) > avoidRetention
	})
}

// extend avoids a port for longer that is still held.
func (m *avoidList) extend(k *avoidEntry, held []sockets.Socket, now time.Time) {
	k.backoff = min(2*k.backoff, avoidMax)
	k.until = now.Add(k.backoff)
	k.listed = true
	if !k.sameSocket(held) { // somebody else by now
		k.sockets, k.resolved = held, false
	}
}

// skipped returns the foreign ports of [lo, hi] that could be given out otherwise, at most
// max.
func (m *avoidList) skipped(lo, hi uint16, max int) []uint16 {
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
