package supervisor

import (
	"path"
	"sync"

	"rbeehive/hive/proc"
)

// knownCgroups remembers which cgroups are workers', by their ids: a client that opens a
// connection for each request must not have all cgroups looked at each time.
type knownCgroups struct {
	mu      sync.Mutex // nothing else is locked while it is held
	workers map[uint64]bool
}

// maxKnownCgroups bounds what is remembered; then it begins anew.
const maxKnownCgroups = 4096

// IsWorkersCgroup reports whether a cgroup, by its id, is one that hive has made for a
// worker or a command, or below it: what connects from there is no user at the keyboard,
// whatever user it runs as. It reads the cgroup file system when an id is new.
func (s *Supervisor) IsWorkersCgroup(id uint64) bool {
	s.cgroups.mu.Lock()
	yes, known := s.cgroups.workers[id]
	s.cgroups.mu.Unlock()
	if known {
		return yes
	}
	// Without the lock: many directories are read, and every other connection would wait for them.
	// Two who look up the same id at once find the same.
	var roots []string
	for _, w := range s.Live() {
		// An earlier hive of this state may have had its workers elsewhere than this one has.
		if w.Cgroup != "" {
			roots = append(roots, path.Dir(w.Cgroup))
		}
	}
	yes = proc.IsWorkersCgroup(id, s.launcher.StateID, roots)
	s.cgroups.mu.Lock()
	defer s.cgroups.mu.Unlock()
	// Most of it is ids of cgroups that are gone; those still in use are soon looked up again.
	if s.cgroups.workers == nil || len(s.cgroups.workers) >= maxKnownCgroups {
		s.cgroups.workers = map[uint64]bool{}
	}
	s.cgroups.workers[id] = yes
	return yes
}
