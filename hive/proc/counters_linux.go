package proc

// counters are those of one process since its start.
type counters struct {
	parent        int
	own, waited   uint64 // clock ticks: its own, and those of children that it has waited for
	read, written uint64 // bytes, of waited-for children too
	readable      bool   // the bytes are known
}

// usedBetween is what the processes of a tree have used between two readings; own is all
// of the CPU time then. since is when the first was, in clock ticks since boot.
//
// A parent that waits for a child inherits what the child has used in all of its
// life, of which the part before the first reading was counted already.
func usedBetween(before, now map[procKey]counters, since uint64) (used counters) {
	var waited counters // may be inherited
	for key, c := range now {
		was, ok := before[key]
		switch {
		case ok:
			used.own += saturatingSub(c.own, was.own)
			waited.own += saturatingSub(c.waited, was.waited)
			if c.readable && was.readable {
				waited.read += saturatingSub(c.read, was.read)
				waited.written += saturatingSub(c.written, was.written)
			}
		case key.start >= since:
			used.own += c.own + c.waited
			used.read += c.read
			used.written += c.written
		}
		// A process that is older and was not in the first reading has just been found: what
		// it used before is of another time.
	}
	byPID := make(map[int]procKey, len(before))
	for key := range before {
		byPID[key.pid] = key
	}
	// What a process had used until the first reading is taken off what its ancestor has
	// inherited since.
	for key, was := range before {
		if _, ok := now[key]; ok || !hasLivingAncestor(was, before, now, byPID) {
			continue
		}
		waited.own = saturatingSub(waited.own, was.own+was.waited)
		waited.read = saturatingSub(waited.read, was.read)
		waited.written = saturatingSub(waited.written, was.written)
	}
	used.own += waited.own
	used.read += waited.read
	used.written += waited.written
	return used
}

// hasLivingAncestor reports whether a process that has ended has an ancestor in the tree
// that has not, and that may have inherited what it used.
func hasLivingAncestor(c counters, before, now map[procKey]counters, byPID map[int]procKey) bool {
	// No chain of parents is longer; numbers that were reused could make a circle.
	for range len(before) {
		key, ok := byPID[c.parent]
		if !ok {
			return false
		}
		if _, alive := now[key]; alive {
			return true
		}
		c = before[key]
	}
	return false
}

// saturatingSub is a - b, not below 0: counters of the kernel go back by a tick at times.
func saturatingSub(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
