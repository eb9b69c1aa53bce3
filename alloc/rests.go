package alloc

import "time"

// rests keeps ports that were released from being picked for a while
// (ports.quarantine): whoever kept the address of the last holder must not reach
// the next one. Who asks for such a port by number, or had it, gets it.
//
// It keeps the pool's resting bits. It has no lock of its own and no clock.
type rests struct {
	pool   *pool
	length time.Duration // 0: none
	queue  []rest        // by time: all rest equally long
}

type rest struct {
	port  uint16
	since time.Time
}

// add begins the rest of a port that was released at the given time.
func (r *rests) add(port uint16, since time.Time) {
	if r.length <= 0 {
		return
	}
	r.queue = append(r.queue, rest{port, since})
	r.pool.resting.set(port)
}

// wake ends the rests that are over.
func (r *rests) wake(now time.Time) {
	n := 0
	for n < len(r.queue) && now.Sub(r.queue[n].since) >= r.length {
		r.pool.resting.clear(r.queue[n].port)
		n++
	}
	if n == 0 {
		return
	}
	r.queue = r.queue[n:]
	// The rest that began later goes on.
	for _, again := range r.queue { // released twice
		r.pool.resting.set(again.port)
	}
}
