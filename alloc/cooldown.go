package alloc

import "time"

// cooldown keeps ports that were released from being picked for a while (ports.quarantine):
// whoever kept the address of the last holder must not reach the next one. A request for
// such a port by number gets it, and so does the worker name that had it.
//
// It maintains the pool's cooling bits. It has no lock of its own and no clock.
type cooldown struct {
	pool     *pool
	duration time.Duration   // 0: none
	queue    []cooldownEntry // by time: all have the same duration
}

type cooldownEntry struct {
	port       uint16
	releasedAt time.Time
}

// add begins the cooldown of a port that was released at the given time.
func (r *cooldown) add(port uint16, releasedAt time.Time) {
	if r.duration <= 0 {
		return
	}
	r.queue = append(r.queue, cooldownEntry{port, releasedAt})
	r.pool.cooling.set(port)
}

// expire ends the cooldowns that are over.
func (r *cooldown) expire(now time.Time) {
	n := 0
	for n < len(r.queue) && now.Sub(r.queue[n].releasedAt) >= r.duration {
		r.pool.cooling.clear(r.queue[n].port)
		n++
	}
	if n == 0 {
		return
	}
	r.queue = r.queue[n:]
	for _, e := range r.queue { // released twice
		r.pool.cooling.set(e.port)
	}
}
