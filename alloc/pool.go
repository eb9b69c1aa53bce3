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

const (
	classFree       class       = iota // nothing is known against it
	classUnnamed                       // of classFree, those that no worker name remembers
	classForeign                       // a stranger had it when it was looked at last
	classDraining                      // the kernel had it when it was looked at last
	classRemembered = classFree        // after classUnnamed only these are left
)

// pool knows which ports are taken. It is a plain value without locks and
// without effects: the Allocator holds its mutex around every call.
type pool struct {
	rng      Range
	policy   Policy
	taken    bitset // leased or being leased
	blocked  bitset // reserved, or hive's own
	foreign  bitset // see marks
	draining bitset // see marks
	cursor   uint16 // sequential: the port to try next

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
	open := ^(p.taken[w] | p.blocked[w])
	switch c {
	case classUnnamed:
		return open &^ (p.foreign[w] | p.draining[w] | p.remembered[w])
	case classForeign:
		return open & p.foreign[w]
	case classDraining:
		return open & p.draining[w] &^ p.foreign[w]
	}
	return open &^ (p.foreign[w] | p.draining[w])
}

// first returns the lowest candidate from lo to hi that is not in tried (which
// may be nil). It looks at whole words, so its cost does not depend on how many
// ports are taken.
func (p *pool) first(c class, lo, hi uint16, tried *bitset) (uint16, bool) {
	for w := int(lo / 64); w <= int(hi/64); w++ {
		word := p.word(c, w)
		if tried != nil {
			word &^= tried[w]
		}
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

// pick returns the port of a class that the policy would give out next.
func (p *pool) pick(c class, tried *bitset) (uint16, bool) {
	from := p.start()
	port, ok := p.first(c, from, p.rng.Last, tried)
	if !ok && from > p.rng.First {
		port, ok = p.first(c, p.rng.First, from-1, tried)
	}
	return port, ok
}

// start is where the policy begins to look.
func (p *pool) start() uint16 {
	if p.policy != Sequential || !p.rng.Contains(p.cursor) {
		return p.rng.First
	}
	return p.cursor
}

// take picks a port, takes it and, in sequential order, moves the cursor past it.
func (p *pool) take(c class, tried *bitset) (uint16, bool) {
	port, ok := p.pick(c, tried)
	if !ok {
		return 0, false
	}
	p.taken.set(port)
	if p.policy == Sequential {
		p.cursor = port + 1
		if port == p.rng.Last { // also where port+1 would be 0
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
	return []class{classUnnamed, classRemembered, classForeign, classDraining}
}

// remember notes that name had port last; port 0 forgets the name. It returns
// what was noted before, 0 if nothing.
func (p *pool) remember(name string, port uint16) uint16 {
	before := p.names[name]
	if before != 0 {
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

// exhausted counts what the ports of the range are in use for.
func (p *pool) exhausted() *ExhaustedError {
	e := &ExhaustedError{Range: p.rng}
	for port := int(p.rng.First); port <= int(p.rng.Last); port++ {
		switch {
		case p.taken.has(uint16(port)):
			e.Leased++
		case p.blocked.has(uint16(port)):
			e.Reserved++
		default:
			e.Foreign++
		}
	}
	return e
}
