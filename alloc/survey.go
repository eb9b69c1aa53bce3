package alloc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rbeehive/alloc/sockets"
	"rbeehive/store"
)

// poolView is a copy of what Survey needs of the pool.
type poolView struct {
	taken, blocked, fixed, cooling, draining, forbidden bitset

	avoided map[uint16]sockets.Holder // foreign, and not visible in the socket table
}

func (a *Allocator) view(snap *sockets.Snapshot) poolView {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cooldown.expire(time.Now())
	v := poolView{
		taken: a.pool.taken, blocked: a.pool.blocked, fixed: a.pool.fixed, cooling: a.pool.cooling,
		draining: a.pool.draining, forbidden: a.pool.forbidden,
		avoided: make(map[uint16]sockets.Holder),
	}
	now := time.Now()
	for port, k := range a.avoid.byPort {
		switch {
		// Its time is over: it may be free by now.
		case !now.Before(k.until):
			v.draining.clear(port)
		// If the table would list the holder and does not, it has gone.
		case a.pool.foreign.has(port) && (!k.listed || len(snap.Listeners(port)) > 0):
			v.avoided[port] = k.holder
		}
	}
	return v
}

// rangeState is the range at one moment.
type rangeState struct {
	snap      *sockets.Snapshot
	view      poolView
	everTaken bitset // the ports that were taken at any time while it was read
	leases    map[uint16]store.Lease
}

// Sockets is the socket table that the allocator looks into.
func (a *Allocator) Sockets() *sockets.Table { return a.table }

// Survey reads the range now: what is leased, who listens where. It changes nothing and
// binds nothing. It blocks for a fresh read of the socket table, a read transaction, and once a second
// for a pass over /proc if anything holds a port. Errors: the store's, ErrUnsupported, ctx's, the
// system's, ErrNotReady, ErrClosed.
func (a *Allocator) Survey(ctx context.Context) (Survey, error) {
	g, err := a.readState(ctx)
	if err != nil {
		return Survey{}, fmt.Errorf("survey the ports: %w", err)
	}
	s := a.count(g.snap, &g.view, &g.everTaken, g.leases)
	if s.Holders, err = a.holders(ctx, g.snap, &g.view, &g.everTaken, g.leases); err != nil {
		return Survey{}, fmt.Errorf("survey the ports: %w", err)
	}
	return s, nil
}

// Tally is Survey without Holders, and without the pass over /proc that finding
// them takes.
func (a *Allocator) Tally(ctx context.Context) (Survey, error) {
	g, err := a.readState(ctx)
	if err != nil {
		return Survey{}, fmt.Errorf("count the ports: %w", err)
	}
	return a.count(g.snap, &g.view, &g.everTaken, g.leases), nil
}

func (a *Allocator) readState(ctx context.Context) (*rangeState, error) {
	g := &rangeState{}
	a.mu.Lock()
	err := a.ready()
	g.everTaken = a.pool.taken
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if g.snap, err = a.table.Snapshot(ctx, 0); err != nil {
		return nil, err
	}
	// A port that was taken before or after the snapshot may show our own probe.
	g.view = a.view(g.snap)
	for i := range g.view.taken {
		g.everTaken[i] |= g.view.taken[i]
	}
	g.leases, err = a.leases()
	return g, err
}

func (a *Allocator) leases() (map[uint16]store.Lease, error) {
	leases := make(map[uint16]store.Lease)
	err := a.store.View(func(tx *store.Tx) error {
		for l, err := range tx.Leases() {
			if err != nil {
				return err
			}
			leases[l.Port] = l
		}
		return nil
	})
	return leases, err
}

// count puts each port under one heading. everTaken are the ports that were taken at any
// time during the survey.
func (a *Allocator) count(snap *sockets.Snapshot, v *poolView, everTaken *bitset, leases map[uint16]store.Lease) Survey {
	s := Survey{Range: a.rng, Total: a.rng.Len()}
	for p := int(a.rng.First); p <= int(a.rng.Last); p++ {
		port := uint16(p)
		_, avoided := v.avoided[port]
		switch {
		// First: a leased port counts as leased, whoever else is on it.
		case v.taken.has(port):
			s.countLease(leases[port])
		case v.blocked.has(port):
			s.Reserved++
		case avoided || !everTaken.has(port) && len(snap.Listeners(port)) > 0:
			s.Foreign++
		case v.forbidden.has(port):
			s.Forbidden++
		case v.draining.has(port):
			s.Draining++
		case v.cooling.has(port):
			s.Quarantined++
		case v.fixed.has(port):
			s.Reserved++
		default:
			s.Free++
		}
	}
	for _, port := range v.taken.ports() {
		if !a.rng.Contains(port) {
			s.Total++
			s.Outside++
			s.countLease(leases[port])
		}
	}
	return s
}

func (s *Survey) countLease(l store.Lease) {
	if l.State == store.LeaseQuarantined {
		s.Quarantined++
		return
	}
	s.Leased++
}

// holders names everybody who holds a port of the range or a leased one.
func (a *Allocator) holders(ctx context.Context, snap *sockets.Snapshot, v *poolView, everTaken *bitset, leases map[uint16]store.Lease) ([]sockets.Holder, error) {
	var held []sockets.Socket
	for _, s := range snap.All() {
		port := s.Local.Port()
		_, leased := leases[port]
		ofInterest := a.rng.Contains(port) && (!everTaken.has(port) || v.blocked.has(port))
		if s.Inode != 0 && (leased || ofInterest) {
			held = append(held, s)
		}
	}
	out, err := a.holderMemory.Holders(ctx, held)
	if err != nil {
		return nil, err
	}
	listed := make(map[uint16]bool)
	for i := range out {
		listed[out[i].Port] = true
		if l, ok := leases[out[i].Port]; ok {
			out[i].Kind = string(l.Kind)
		}
	}
	for port, h := range v.avoided {
		if !listed[port] && a.rng.Contains(port) && !v.taken.has(port) && !v.blocked.has(port) {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(x, y sockets.Holder) int { return int(x.Port) - int(y.Port) })
	return out, nil
}
