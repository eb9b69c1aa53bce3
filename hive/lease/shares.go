package lease

import (
	"fmt"
	"strconv"
	"sync"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// shares counts the ports that each caller has leased for programs of their own, so
// that one of them cannot take all. It is safe for concurrent use.
type shares struct {
	mu    sync.Mutex // nothing else is locked while it is held
	ports map[string]int
}

// shareOf names whom a lease counts for; empty: nobody. Who has acquired it is the
// same person whatever process they have asked by.
func shareOf(r *store.Requester) string {
	switch {
	case r == nil || r.Hive:
		return ""
	case r.Token != "":
		return "token " + r.Token
	case r.UID != nil:
		return "uid " + strconv.FormatUint(uint64(*r.UID), 10)
	}
	return ""
}

// take counts ports that a caller is about to lease. Admins have no limit. The error
// is an *errdefs.InputError of kind errdefs.ErrForbidden.
func (s *shares) take(by access.Caller, ports, most int) error {
	key := shareOf(by.Record())
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.ports[key]; !by.Rights.May(access.Admin) && have+ports > most {
		return &errdefs.InputError{Kind: errdefs.ErrForbidden, Field: "ports", Detail: fmt.Sprintf(
			"%s has leased %d ports and may have %d at a time (ports.per_user); release one first", by, have, most)}
	}
	// Admins are counted, too: they may be none later, and still have the ports.
	s.count(key, ports)
	return nil
}

// add counts a lease that is there already.
func (s *shares) add(r *store.Requester, ports int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(shareOf(r), ports)
}

// give takes ports off that are not leased any more.
func (s *shares) give(r *store.Requester, ports int) { s.add(r, -ports) }

func (s *shares) count(key string, ports int) {
	if key == "" {
		return
	}
	if s.ports == nil {
		s.ports = map[string]int{}
	}
	// Callers without ports must not pile up here.
	if s.ports[key] += ports; s.ports[key] <= 0 {
		delete(s.ports, key)
	}
}
