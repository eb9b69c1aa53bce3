package proc

import "rbeehive/hive/proc/internal/procfs"

// uidOf returns the user of a process. It is NoUser where the real, effective, saved and
// file system uids differ, where they cannot be read, and where they may be any of those
// for whom this user namespace has no number.
func uidOf(pid int) uint32 {
	uids, err := procfs.ReadUIDs(pid)
	if err != nil || !uids.Same() || isOverflowUID(uids.Real) {
		return NoUser
	}
	return uids.Real
}

// OneUser reports whether a uid, as the kernel gives it for a socket, is that of a single
// user, and not the one that stands for every user for whom this user namespace has no
// number.
func OneUser(uid uint32) bool { return uid != NoUser && !isOverflowUID(uid) }

// isOverflowUID reports whether a uid stands for every user for whom this user namespace
// has no number (overflowuid, user_namespaces(7)), instead of one user alone.
func isOverflowUID(uid uint32) bool {
	overflow, err := procfs.OverflowUID()
	return err != nil || uid == overflow
}

// claimants are the users whose processes are asked for their stamps. A stranger's
// environment is not read: that takes a lock of the stranger's memory, which it can hold
// on to.
type claimants struct {
	uids     map[uint32]bool
	sessions map[int]bool // made by hive, whatever user their processes have changed to
	all      bool
}

func newClaimants(uids ...uint32) claimants {
	c := claimants{uids: map[uint32]bool{}, sessions: map[int]bool{}}
	for _, uid := range uids {
		c.uids[uid] = uid != NoUser
	}
	return c
}

func (c *claimants) add(t *Tree) {
	// What a killed hive has left of its commands is recorded nowhere: it may be of any
	// user that a worker can have.
	c.all = c.all || t.mark != "" && t.UID == NoUser
	c.uids[t.UID] = t.UID != NoUser
	c.sessions[t.Identity.PID] = t.Identity.PID != 0
}

func (c *claimants) has(st *procfs.Stat) bool {
	return c.all || c.sessions[st.Session] || c.uids[uidOf(st.PID)]
}
