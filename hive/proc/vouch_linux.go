package proc

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/procfs"
)

// A cgroup, a session and a parent are facts of the kernel's. A log and stamps are what
// a process says of itself: they count if the kernel says of it that its user is the
// worker's, and nothing against it.

// word is the word of a process that it is of a tree.
type word struct {
	tree  int
	proof string // ProofLog or ProofStamp
	// uid is the user for whom it counts.
	uid uint32
	// secret: nobody but hive and processes of that user has it to give.
	secret bool
}

// vouched reports whether a process's word that it is of a tree counts.
//
// It counts from a process of the worker's user, in each of its four uids: a program
// that has changed one of them (setuid) has its environment from somebody else. In a
// tree that has no cgroup of its own a word that others cannot have (the log, which
// only the worker's user can open; a stamp with its proof) counts besides from the
// processes of the session that hive made, whatever user they have taken on, and a
// proven stamp from one of hive's own user. With a cgroup such a process is in it.
func (s *survey) vouched(w word, st *procfs.Stat) bool {
	t := s.trees[w.tree]
	if s.elsewhere(t, st.PID) {
		return false
	}
	uid := ownerOf(st.PID)
	switch {
	case uid == w.uid && uid != NoUser:
		return w.secret || !procfs.GainedRights(st.ReadableID())
	case t.Cgroup != "" || !w.secret:
		return false
	case w.proof == ProofStamp && uid == uint32(os.Geteuid()):
		return true
	}
	// While anybody is in a session nobody else gets its number.
	return t.Identity.PID != 0 && st.Session == t.Identity.PID && st.Start >= t.Identity.StartTicks
}

// users are those whose processes are asked for their stamps. A stranger's environment is
// not read: that takes a lock of the stranger's memory, which it can hold on to.
type users struct {
	uids     map[uint32]bool
	sessions map[int]bool // made by hive, whatever user their processes have taken on
	all      bool
}

func newUsers(uids ...uint32) users {
	u := users{uids: map[uint32]bool{}, sessions: map[int]bool{}}
	for _, uid := range uids {
		u.uids[uid] = uid != NoUser
	}
	return u
}

func (u *users) add(t *Tree) {
	u.all = u.all || t.hook != "" && t.UID == NoUser // of commands that nothing is recorded of
	u.uids[t.UID] = t.UID != NoUser
	u.sessions[t.Identity.PID] = t.Identity.PID != 0
}

func (u *users) may(st *procfs.Stat) bool {
	return u.all || u.sessions[st.Session] || u.uids[ownerOf(st.PID)]
}

// elsewhere reports whether a process is in the cgroup of another worker or command, of
// this hive or another. That of a worker in which this hive itself runs says nothing,
// nor does one of the same name where it was when hive was started in another cgroup.
func (s *survey) elsewhere(t *Tree, pid int) bool {
	if s.mount.Dir == "" {
		return false
	}
	at, _ := s.mount.Of(pid)
	leaf := leafIn(at)
	if leaf == "" || leaf == t.Cgroup || within(s.own, leaf) {
		return false
	}
	if t.hook != "" {
		return !strings.HasPrefix(path.Base(leaf), hookLeaf)
	}
	return t.WorkerID == "" || path.Base(leaf) != t.WorkerID
}

// leafIn returns the leaf of a hive that a cgroup is, or is below; the innermost of
// several. Empty: none.
func leafIn(cgroup string) string {
	for p := path.Clean("/" + cgroup); path.Dir(p) != p; p = path.Dir(p) {
		if strings.HasPrefix(path.Base(path.Dir(p)), rootPrefix) {
			return p
		}
	}
	return ""
}

// ownerOf returns the user of a process: NoUser where its real, effective, saved and
// file system uids are not one, where that cannot be read, and where it may be any of
// those that this user namespace has no number for.
func ownerOf(pid int) uint32 {
	uids, err := procfs.ReadUIDs(pid)
	if err != nil || !uids.Same() || anybody(uids.Real) {
		return NoUser
	}
	return uids.Real
}

// OneUser reports whether a uid, as the kernel gives it for a socket, is one user's, and
// not that of every user whom this user namespace has no number for.
func OneUser(uid uint32) bool { return uid != NoUser && !anybody(uid) }

// anybody reports whether a uid stands for every user that this user namespace has no
// number for (overflowuid, user_namespaces(7)), and not for one user alone.
func anybody(uid uint32) bool {
	overflow, err := procfs.OverflowUID()
	return err != nil || uid == overflow
}

// stampPrefix begins the name of each stamp.
const stampPrefix = "RBEEHIVE_"

// ownedByHive reports whether a cgroup's directory is of hive's user or root: below a
// directory that is theirs, as the home of a user's services is, others can make cgroups
// of any name.
func ownedByHive(dir string, owner uint32) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && (st.Uid == 0 || st.Uid == owner)
}

// logOf identifies a worker's log, and says whose it is. A symbolic link or a device that was put in its
// place would make members of all who have that device open: with a link to
// /dev/null most of the system's services, and a stop would end them.
func logOf(path string) (log procfs.FileID, owner uint32, ok bool) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return procfs.FileID{}, NoUser, false
	}
	return procfs.FileID{Dev: uint64(st.Dev), Ino: st.Ino}, st.Uid, true //nolint:unconvert // Dev is 32 bits wide on some architectures
}
