package hive

import (
	"path"
	"sync"

	"rbeehive/hive/proc"
)

// callers remembers which cgroups are workers', by their ids: a client that opens a
// connection for each request must not have all cgroups looked at each time. It is safe
// for concurrent use.
type callers struct {
	mu      sync.Mutex
	workers map[uint64]bool
}

// mostCallers bounds what is remembered; then it begins anew.
const mostCallers = 4096

// IsWorkersCgroup reports whether a cgroup, by its id, is one that hive has made for a
// worker or a command, or below it: what connects from there is no user at the keyboard,
// whatever user it runs as. It reads the cgroup file system when an id is new.
func (h *Hive) IsWorkersCgroup(id uint64) bool {
	h.callers.mu.Lock()
	yes, known := h.callers.workers[id]
	h.callers.mu.Unlock()
	if known {
		return yes
	}
	var roots []string
	for _, w := range h.live() {
		if w.Cgroup != "" {
			roots = append(roots, path.Dir(w.Cgroup))
		}
	}
	yes = proc.IsWorkersCgroup(id, h.store.Meta().StateID, roots)
	h.callers.mu.Lock()
	defer h.callers.mu.Unlock()
	if h.callers.workers == nil || len(h.callers.workers) >= mostCallers {
		h.callers.workers = map[uint64]bool{}
	}
	h.callers.workers[id] = yes
	return yes
}
