package alloc

import (
	"context"
	"net/netip"

	"rbeehive/alloc/sockets"
)

// finding is what a probe found about a port.
type finding struct {
	verdict verdict
	// The other fields are about verdictForeign.
	holder   sockets.Holder
	resolved bool             // holder is complete; else sockets say whom to look up
	sockets  []sockets.Socket // the holder's sockets, as far as they can be seen
	listed   bool             // Table.Snapshot shows them
	known    bool             // the avoid list has all this already
}

type verdict int

const (
	verdictFree      verdict = iota
	verdictDraining          // only the kernel has it; a bind fails until that has run out
	verdictResidue           // only the kernel has it, as far as can be seen; a bind with SO_REUSEADDR succeeds
	verdictForeign           // a program that hive did not start has it, or may have it
	verdictForbidden         // the system does not let hive bind it, whoever has it
)

// inspect decides whether a port can be given out. The caller has taken the port's bit, so
// that no other probe of this process is on the port, and its claim, so that no other hive
// is probing it, whose sockets would look foreign.
//
// A bind without SO_REUSEADDR succeeds only where no socket at all has the port, in any
// state, on any address: then there is nothing to look up. Where it fails that may be a
// false alarm, and the socket table decides, then a bind with SO_REUSEADDR. A port that is
// avoided is looked up first, and bound only if the table shows nobody.
func (s *search) inspect(ctx context.Context, port uint16) (finding, error) {
	if s.a.avoidEntry(port) == nil {
		if clean, err := s.bind(port, false); clean || err != nil {
			return finding{verdict: verdictFree}, err
		}
	}
	f, known, err := s.findHolder(ctx, port)
	if known || err != nil {
		return f, err
	}
	// Twice: a port whose holder went away between the bind and the read of the table has
	// neither an owner nor an explanation the first time.
	for range 2 {
		free, err := s.bind(port, true)
		if err != nil {
			return finding{}, err
		}
		if free {
			return s.inspectWithoutBound(ctx, port)
		}
		now, err := s.a.table.Port(ctx, port)
		if err != nil {
			return finding{}, err
		}
		if f, explained := s.explain(port, now, verdictDraining); explained {
			return f, nil
		}
	}
	return unknownHolder(port), nil
}

// bind is tryBind on the addresses that matter.
func (s *search) bind(port uint16, reuse bool) (bool, error) {
	addrs := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	switch {
	case s.hostOnly && s.host.IsValid():
		addrs = []netip.Addr{s.host}
	case s.host.IsValid() && !s.host.IsUnspecified():
		addrs = append(addrs, s.host)
	}
	return tryBind(port, addrs, s.host, reuse)
}

// conflicting returns those of the sockets of a port that matter.
func (s *search) conflicting(held []sockets.Socket) []sockets.Socket {
	if s.hostOnly && s.host.IsValid() {
		return sockets.Accepting(held, s.host)
	}
	return held
}

// Vacant reports whether no socket has the port as its local one: a bind without
// SO_REUSEADDR on the wildcard addresses meets every other, in whatever state (see the
// package comment). False says only that this was not seen: the port may be one that hive is
// not permitted to bind. It costs some 20 microseconds, however many sockets there are, and
// a program that binds the port in just this moment fails, as by any other probe.
func Vacant(port uint16) bool {
	free, err := tryBind(port, []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, netip.Addr{}, false)
	return err == nil && free
}

// snapshot reads the socket table, once for a search: the one port that is requested, else
// a snapshot that is shared with other searches.
func (s *search) snapshot(ctx context.Context) (*sockets.Snapshot, error) {
	if s.snap != nil {
		return s.snap, nil
	}
	var err error
	if s.req.Port != 0 {
		s.snap, err = s.a.table.Port(ctx, s.req.Port)
	} else {
		s.snap, err = s.a.table.Snapshot(ctx, snapshotAge)
	}
	return s.snap, err
}

// findHolder looks for a holder in the socket table. The shared snapshot may be
// milliseconds old, and may show a probe socket that this process had on the port then; so
// what it shows is read again before it counts.
func (s *search) findHolder(ctx context.Context, port uint16) (finding, bool, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return finding{}, false, err
	}
	before, held := s.a.avoidEntry(port), s.conflicting(snap.Listeners(port))
	switch {
	case before == nil && len(held) == 0:
		return finding{}, false, nil
	case before != nil && before.sameSocket(held):
		f := foreign(port, held, true)
		f.known = true
		return f, true, nil
	}
	// The shared snapshot may show a probe of our own; a read of this port alone does not.
	if !snap.AllStates {
		if snap, err = s.a.table.Port(ctx, port); err != nil {
			return finding{}, false, err
		}
	}
	if held = s.conflicting(snap.Listeners(port)); len(held) > 0 {
		return foreign(port, held, true), true, nil
	}
	if before == nil || before.holder.Kind != sockets.KindConnection {
		return finding{}, false, nil
	}
	// A connection had it; while it does, there is no need to bind.
	f, explained := s.explain(port, snap, verdictFree)
	return f, explained && f.verdict == verdictForeign, nil
}

// inspectWithoutBound ends the probe of a port that could be bound with SO_REUSEADDR. Where
// the table lists bound sockets that is all. Elsewhere a socket that is bound with reuse
// flags and does not listen shows itself only in a bind without SO_REUSEADDR, which residue
// makes fail too.
func (s *search) inspectWithoutBound(ctx context.Context, port uint16) (finding, error) {
	if s.snap.BoundKnown {
		return finding{verdict: verdictFree}, nil
	}
	free, err := s.bind(port, false)
	if free || err != nil {
		return finding{verdict: verdictFree}, err
	}
	now, err := s.a.table.Port(ctx, port)
	if err != nil {
		return finding{}, err
	}
	if f, explained := s.explain(port, now, verdictResidue); explained {
		return f, nil
	}
	return unknownHolder(port), nil
}

// explain says why a port could not be bound: by a socket that somebody has, or
// by residue alone, which gives the verdict residue. It reports false if the
// table shows nothing.
func (s *search) explain(port uint16, snap *sockets.Snapshot, residue verdict) (finding, bool) {
	var held []sockets.Socket
	for _, sock := range snap.Port(port) {
		if sock.Inode != 0 {
			held = append(held, sock)
		}
	}
	held = s.conflicting(held)
	switch {
	case len(held) > 0:
		return foreign(port, held, len(snap.Listeners(port)) > 0), true
	case len(snap.Residue(port)) > 0:
		return finding{verdict: residue}, true
	}
	return finding{}, false
}

func foreign(port uint16, held []sockets.Socket, listed bool) finding {
	kind := sockets.KindConnection
	if listed {
		kind = sockets.KindListener
	}
	return finding{
		verdict: verdictForeign,
		holder:  sockets.Holder{Port: port, Kind: kind},
		sockets: held,
		listed:  listed,
	}
}

// unknownHolder is for a port that cannot be bound for a reason the table does
// not show: on an old kernel, a socket that is bound and does not listen.
func unknownHolder(port uint16) finding {
	// named: there is nobody to look up.
	return finding{
		verdict:  verdictForeign,
		holder:   sockets.Holder{Port: port, Kind: sockets.KindUnknown},
		resolved: true,
	}
}

// otherHive is for a port whose claim somebody else has.
func otherHive(ctx context.Context, port uint16) (finding, error) {
	holder, err := sockets.AbstractHolder(ctx, claimName(port))
	if err != nil {
		return finding{}, err
	}
	holder.Port, holder.Kind = port, sockets.KindHive
	return finding{verdict: verdictForeign, holder: holder, resolved: true}, nil
}
