package alloc

import (
	"context"
	"slices"

	"rbeehive/alloc/sockets"
)

// skippedPorts returns the foreign ports that come before r in the order of the policy, and
// the one that r's name had before.
func (a *Allocator) skippedPorts(from uint16, r *Reservation) []uint16 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ports []uint16
	first, last := a.rng.First, a.rng.Last
	switch {
	case !r.picked: // it was requested, or the name's own
	case r.class == classForeign || r.class == classDraining: // nothing else was left
		ports = a.avoid.skipped(first, last, maxSkipped)
	case r.Port >= from:
		ports = a.avoid.skipped(from, r.Port, maxSkipped)
	default: // sequential, wrapped around
		ports = a.avoid.skipped(from, last, maxSkipped)
		ports = append(ports, a.avoid.skipped(first, r.Port, maxSkipped-len(ports))...)
	}
	if !r.NameMoved || !a.pool.foreign.has(r.Former) {
		return ports
	}
	if slices.Contains(ports, r.Former) {
		return ports
	}
	return append(ports, r.Former)
}

// resolveHolders returns who has the given ports, as far as they are avoided as foreign. A
// holder that is not known yet is looked up, all in one pass over /proc, and remembered.
// That is for people to read: if it fails, the holders stay without a name, and a port that
// was found is not given up for it.
func (a *Allocator) resolveHolders(ctx context.Context, ports []uint16) []sockets.Holder {
	if len(ports) == 0 {
		return nil
	}
	// Without the lock: this walks /proc.
	holders, _ := sockets.Holders(ctx, a.unresolvedSockets(ctx, ports))
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range holders {
		k := a.avoid.active(h.Port)
		if k == nil || h.Kind == sockets.KindDraining {
			continue
		}
		if !k.resolved || k.holder.PID == 0 { // of several, one that can be seen
			k.holder, k.resolved = h, true
		}
	}
	var out []sockets.Holder
	for _, port := range ports {
		if k := a.avoid.active(port); k != nil {
			out = append(out, k.holder)
		}
	}
	return out
}

// unresolvedSockets returns the sockets behind the entries whose holder is not known yet.
// For a reported port (Avoid) the table is read; if it shows nothing, or cannot be read,
// the report stands.
func (a *Allocator) unresolvedSockets(ctx context.Context, ports []uint16) []sockets.Socket {
	var found []sockets.Socket
	for _, port := range ports {
		k := a.avoidEntry(port)
		switch {
		case k == nil || k.resolved:
		case len(k.sockets) > 0:
			found = append(found, k.sockets...)
		default:
			if snap, err := a.table.Port(ctx, port); err == nil {
				found = append(found, snap.Listeners(port)...)
			}
		}
	}
	return found
}
