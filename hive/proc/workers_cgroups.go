package proc

import (
	"path"
	"sync"

	"rbeehive/store"
)

// WorkersCgroups remembers which cgroups are those of a hive's workers, by their ids: a
// client that opens a connection for each request must not have all cgroups looked at each
// time. It is safe for concurrent use.
type WorkersCgroups struct {
	stateID string
	live    func() []store.Worker
	mu      sync.Mutex // nothing else is locked while it is held
	known   map[uint64]bool
}

// NewWorkersCgroups is for the workers of the hive with a state id; live returns their records.
func NewWorkersCgroups(stateID string, live func() []store.Worker) *WorkersCgroups {
	return &WorkersCgroups{stateID: stateID, live: live}
}

// maxKnownCgroups bounds what is remembered; then it begins anew.
const maxKnownCgroups = 4096

// Has reports whether a cgroup, by its id, is one that hive has made for a worker or a
// command, or below it: what connects from there is no user at the keyboard, whatever user
// it runs as. It reads the cgroup file system when an id is new.
func (c *WorkersCgroups) Has(id uint64) bool {
	c.mu.Lock()
	yes, known := c.known[id]
	c.mu.Unlock()
	if known {
		return yes
	}
	// Without the lock: many directories are read, and every other connection would wait for them.
	// Two who look up the same id at once find the same.
	var roots []string
	for _, w := range c.live() {
		// An earlier hive of this state may have had its workers elsewhere than this one has.
		if w.Cgroup != "" {
			roots = append(roots, path.Dir(w.Cgroup))
		}
	}
	yes = isWorkersCgroup(id, c.stateID, roots)
	c.mu.Lock()
	defer c.mu.Unlock()
	// Most of it is ids of cgroups that are gone; those still in use are soon looked up again.
	if c.known == nil || len(c.known) >= maxKnownCgroups {
		c.known = map[uint64]bool{}
	}
	c.known[id] = yes
	return yes
}
