package proc

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/hive/proc/internal/procfs"
)

// Owns says whose the given sockets are: Ours if each of them belongs to a
// process of the tree, Foreign if one is provably in the hands of another
// process, OwnerUnknown if the system does not let us see (then never act), or
// if there are none. What counts is the cgroup that a socket was made in, else the
// descriptors of the main process, else those of the members. It reads /proc.
// Safe for concurrent use.
func (t *Tree) Owns(ctx context.Context, socks []sockets.Socket) (Ownership, error) {
	if len(socks) == 0 {
		return OwnerUnknown, nil
	}
	// The cheapest first: most sockets of most workers are the main process's.
	open := t.exceptMain(ctx, t.exceptCgroup(socks))
	if len(open) > 0 {
		var err error
		if open, err = t.exceptMembers(ctx, open); err != nil {
			return OwnerUnknown, fmt.Errorf("owner of sockets: %w", err)
		}
	}
	if ctx.Err() != nil {
		return OwnerUnknown, fmt.Errorf("owner of sockets: %w", ctx.Err())
	}
	if len(open) == 0 {
		return Ours, nil
	}
	return t.findForeign(ctx, open)
}

// findForeign searches for the holders of sockets that no process of the tree seems to
// have open. That alone proves nothing: a descriptor table may be hidden from us, and a
// worker that is called foreign by mistake is stopped. So Foreign takes a holder that we
// see and that, read once more, still has the socket while the tree has not.
func (t *Tree) findForeign(ctx context.Context, open []uint64) (Ownership, error) {
	holders, err := holdersOf(ctx, open)
	if err != nil {
		return OwnerUnknown, fmt.Errorf("owner of sockets: %w", err)
	}
	// The tree is asked again after the others: a socket may have passed to a member
	// meanwhile.
	open, err = t.exceptMembers(ctx, t.exceptMain(ctx, open))
	if err != nil {
		return OwnerUnknown, fmt.Errorf("owner of sockets: %w", err)
	}
	verdict := Ours
	for _, inode := range open {
		stillHas := func(pid int) bool { return socketsOf(ctx, pid)[inode] }
		if slices.ContainsFunc(holders[inode], stillHas) {
			return Foreign, nil
		}
		verdict = OwnerUnknown // a member may have had it, and closed it or ended
	}
	return verdict, nil
}

// holdersOf finds the processes that have the sockets open, as far as we may see.
func holdersOf(ctx context.Context, inodes []uint64) (map[uint64][]int, error) {
	all, err := procfs.PIDs()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	out := make(map[uint64][]int)
	forEach(len(all), func(i int) {
		have, err := procfs.SocketInodes(ctx, all[i])
		if err != nil {
			return // ended, or hidden: it is no evidence against anybody
		}
		mu.Lock()
		defer mu.Unlock()
		for _, inode := range inodes {
			if have[inode] {
				out[inode] = append(out[inode], all[i])
			}
		}
	})
	return out, ctx.Err()
}

// exceptCgroup returns the sockets that were not made in the tree's cgroup. That
// alone does not make them foreign: a member may have left the cgroup.
func (t *Tree) exceptCgroup(socks []sockets.Socket) []uint64 {
	var ids map[uint64]bool
	if dir, ok := cgroupDir(t.Cgroup); ok {
		ids = cgroup.IDs(dir)
	}
	var open []uint64
	for _, s := range socks {
		if s.CgroupID == 0 || !ids[s.CgroupID] {
			open = append(open, s.Inode)
		}
	}
	return open
}

// exceptMain returns the sockets that the main process does not have open, as far as we
// may see.
func (t *Tree) exceptMain(ctx context.Context, open []uint64) []uint64 {
	if t.Main == nil || len(open) == 0 {
		return open
	}
	have := socketsOf(ctx, t.Main.PID())
	if !t.Main.alive() { // what was read may be of another process with its PID
		return open
	}
	return subtract(open, have)
}

// exceptMembers returns the sockets that no member has open, as far as we may see.
func (t *Tree) exceptMembers(ctx context.Context, open []uint64) ([]uint64, error) {
	members, err := t.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if len(open) == 0 {
			break
		}
		// Read before the start time, which shows that it was still the member's.
		have := socketsOf(ctx, m.PID)
		if st, err := procfs.ReadStat(m.PID); err == nil && st.Start == m.Start {
			open = subtract(open, have)
		}
	}
	return open, nil
}

// socketsOf returns the sockets that a process has open, as far as we may see. It is one
// of maxReaders, too.
func socketsOf(ctx context.Context, pid int) (have map[uint64]bool) {
	forEach(1, func(int) { have, _ = procfs.SocketInodes(ctx, pid) })
	return have
}

func subtract(open []uint64, have map[uint64]bool) []uint64 {
	return slices.DeleteFunc(slices.Clone(open), func(inode uint64) bool { return have[inode] })
}

// ListenPorts returns, in ascending order, every port of the snapshot on which a
// process of the tree listens, in any address family: also ports the worker has
// no lease for. Where the tree has a cgroup and the kernel says in which cgroup a
// socket was made, that and the main process's descriptors decide, and the cost
// does not grow with the number of processes; else /proc is read for the members.
// Processes that cannot be looked into are left out. Safe for concurrent use.
func (t *Tree) ListenPorts(ctx context.Context, snap *sockets.Snapshot) ([]uint16, error) {
	listening := make([]sockets.Socket, 0, 16)
	byCgroup := false // the kernel says in which cgroup a socket was made
	for _, s := range snap.All() {
		if s.State == sockets.Listen && s.Inode != 0 {
			listening = append(listening, s)
			byCgroup = byCgroup || s.CgroupID != 0
		}
	}
	// Without the kernel's word on cgroups a member's socket is found only by its
	// descriptors.
	rest := t.exceptMain(ctx, t.exceptCgroup(listening))
	if _, ok := cgroupDir(t.Cgroup); !ok || !byCgroup {
		var err error
		if rest, err = t.exceptMembers(ctx, rest); err != nil {
			return nil, fmt.Errorf("ports of tree: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ports of tree: %w", err)
	}
	var ports []uint16
	for _, s := range listening {
		if !slices.Contains(rest, s.Inode) {
			ports = append(ports, s.Local.Port())
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}
