package alloc

import "math/bits"

// bitset has one bit for each port. It spans all ports, not only the range, so
// that leases outside the range need no second structure.
type bitset [1 << 16 / 64]uint64

func (b *bitset) has(p uint16) bool { return b[p/64]&(1<<(p%64)) != 0 }
func (b *bitset) set(p uint16)      { b[p/64] |= 1 << (p % 64) }
func (b *bitset) clear(p uint16)    { b[p/64] &^= 1 << (p % 64) }

// setRange sets the bits of r.
func (b *bitset) setRange(r Range) {
	// As an int: no uint16 is above 65535, and the loop would not end.
	for p := int(r.First); r.Len() > 0 && p <= int(r.Last); p++ {
		b.set(uint16(p))
	}
}

// ports returns the set bits, ascending.
func (b *bitset) ports() []uint16 {
	var out []uint16
	for w, word := range b {
		for ; word != 0; word &= word - 1 {
			out = append(out, uint16(w*64+bits.TrailingZeros64(word)))
		}
	}
	return out
}

// count returns the number of set bits.
func (b *bitset) count() int {
	n := 0
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return n
}

// class is a set of ports that are candidates for the same reason. Classes are
// tried in turn.
type class int

// A later class holds the ports of those before it too, which by then are taken or
// were tried: so several ports in a row may be of different classes.
const (
	classUnnamed  class = iota // nothing speaks against it, and no worker name remembers it
	classFree                  // nothing speaks against it
	classForeign               // another program had it, or it was forbidden, when it was last checked
	classDraining              // the kernel had it when it was last checked
)

// pool knows which ports are taken. It is a plain value without locks and
// without effects: the Allocator holds its mutex around every call.
type pool struct {
	rng      Range
	policy   Policy
	taken    bitset // leased or being leased
	blocked  bitset // reserved, or hive's own
	fixed    bitset // given out to a request by number, or by the name that had it
	cooling  bitset // the same, for a while after its release: see cooldown
	foreign  bitset // see avoidList
	draining bitset // see avoidList
	// forbidden are those that hive could not bind for lack of permission when it last tried.
	forbidden bitset
	cursor    uint16 // sequential: the port to try next

	names      map[string]uint16 // the port each worker name had last
	remembered bitset            // the ports of names
	refs       map[uint16]int    // how many names remember a port
}

func newPool(r Range, policy Policy) *pool {
	return &pool{
		rng: r, policy: policy, cursor: r.First,
		names: make(map[string]uint16), refs: make(map[uint16]int),
	}
}

// word returns 64 ports' candidates of a class.
func (p *pool) word(c class, w int) uint64 {
	open := ^(p.taken[w] | p.blocked[w] | p.fixed[w] | p.cooling[w])
	switch c {
	case classUnnamed:
		return open &^ (p.foreign[w] | p.draining[w] | p.forbidden[w] | p.remembered[w])
	case classForeign:
		return open &^ p.draining[w]
	case classDraining:
		return open &^ (p.foreign[w] | p.forbidden[w])
	}
	return open &^ (p.foreign[w] | p.draining[w] | p.forbidden[w])
}

// first returns the lowest candidate from lo to hi that is not in tried (which may be nil).
// It reads whole words, so its cost does not depend on how many ports are taken.
func (p *pool) first(c class, lo, hi uint16, tried *bitset) (uint16, bool) {
	return firstOf(func(w int) uint64 {
		word := p.word(c, w)
		if tried != nil {
			word &^= tried[w]
		}
		return word
	}, lo, hi)
}

// firstOf returns the lowest port from lo to hi whose bit is set in words.
func firstOf(words func(w int) uint64, lo, hi uint16) (uint16, bool) {
	for w := int(lo / 64); w <= int(hi/64); w++ {
		word := words(w)
		if w == int(lo/64) {
			word &= ^uint64(0) << (lo % 64)
		}
		if w == int(hi/64) {
			word &= ^uint64(0) >> (63 - hi%64)
		}
		if word != 0 {
			return uint16(w*64 + bits.TrailingZeros64(word)), true
		}
	}
	return 0, false
}

// window returns the lowest port from lo to hi that begins n candidates in a row.
func (p *pool) window(c class, lo, hi uint16, n int, tried *bitset) (uint16, bool) {
	for {
		first, ok := p.first(c, lo, hi, tried)
		if !ok || int(hi)-int(first)+1 < n {
			return 0, false
		}
		// The next port that is no candidate ends the window, if it is inside.
		end, broken := firstOf(func(w int) uint64 {
			word := ^p.word(c, w)
			if tried != nil {
				word |= tried[w]
			}
			return word
		}, first, first+uint16(n-1))
		if !broken {
			return first, true
		}
		if end == hi {
			return 0, false
		}
		lo = end + 1
	}
}

// pick returns the first of the n ports that the policy would give out next.
func (p *pool) pick(c class, n int, tried *bitset) (uint16, bool) {
	from := p.start()
	port, ok := p.window(c, from, p.rng.Last, n, tried)
	// Again, and up to the end: a row may lie across the cursor.
	if !ok && from > p.rng.First {
		port, ok = p.window(c, p.rng.First, p.rng.Last, n, tried)
	}
	return port, ok
}

// start is where the policy begins.
func (p *pool) start() uint16 {
	if p.policy != Sequential || !p.rng.Contains(p.cursor) {
		return p.rng.First
	}
	return p.cursor
}

// take picks n ports in a row, takes them and, in sequential order, moves the
// cursor past them. It returns the first.
func (p *pool) take(c class, n int, tried *bitset) (uint16, bool) {
	port, ok := p.pick(c, n, tried)
	if !ok {
		return 0, false
	}
	last := port + uint16(n-1)
	// Under the same lock as the choice, so that no two searches take one port.
	p.taken.setRange(Range{port, last})
	if p.policy == Sequential {
		p.cursor = last + 1
		if last == p.rng.Last { // also where last+1 would be 0
			p.cursor = p.rng.First
		}
	}
	return port, true
}

// classes returns the classes in the order in which the policy tries them. The
// foreign ones come before the draining ones: they are given out only when they
// prove to be free by now.
func (p *pool) classes() []class {
	if p.policy == Sequential {
		return []class{classFree, classForeign, classDraining}
	}
	return []class{classUnnamed, classFree, classForeign, classDraining}
}

// remember records that name had port last; port 0 forgets the name. It returns the
// previous port, 0 if there was none.
func (p *pool) remember(name string, port uint16) uint16 {
	before := p.names[name]
	if before != 0 {
		// Several names may have had the port, one after the other.
		if p.refs[before]--; p.refs[before] == 0 {
			delete(p.refs, before)
			p.remembered.clear(before)
		}
		delete(p.names, name)
	}
	if port != 0 {
		p.names[name] = port
		p.refs[port]++
		p.remembered.set(port)
	}
	return before
}

// namesOf returns the names that remember a port: one, or several in a file that an older
// hive wrote.
func (p *pool) namesOf(port uint16) (names []string) {
	if p.refs[port] == 0 {
		return nil
	}
	for name, at := range p.names {
		if at == port {
			names = append(names, name)
		}
	}
	return names
}

// exhausted counts what the ports of the range are in use for, so that there are
// no n in a row.
func (p *pool) exhausted(n int) *ExhaustedError {
	e := &ExhaustedError{Range: p.rng}
	if n > 1 {
		e.Consecutive = n
	}
	for port := int(p.rng.First); port <= int(p.rng.Last); port++ {
		switch {
		case p.taken.has(uint16(port)):
			e.Leased++
		case p.blocked.has(uint16(port)), p.fixed.has(uint16(port)):
			e.Reserved++
		case p.cooling.has(uint16(port)):
			e.Quarantined++
		case p.forbidden.has(uint16(port)):
			e.Forbidden++
		// With n == 1 the rest was tried, and found in other hands.
		case p.foreign.has(uint16(port)), p.draining.has(uint16(port)), n == 1:
			e.Foreign++
		}
	}
	return e
}
