package proc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
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
func (s *survey) vouched(w word, st *stat) bool {
	t := s.trees[w.tree]
	if s.elsewhere(t, st.pid) {
		return false
	}
	uid := ownerOf(st.pid)
	switch {
	case uid == w.uid && uid != NoUser:
		return w.secret || !gainedRights(st.living())
	case t.Cgroup != "" || !w.secret:
		return false
	case w.proof == ProofStamp && uid == uint32(os.Geteuid()):
		return true
	}
	// While anybody is in a session nobody else gets its number.
	return t.Identity.PID != 0 && st.session == t.Identity.PID && st.start >= t.Identity.StartTicks
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

func (u *users) may(st *stat) bool {
	return u.all || u.sessions[st.session] || u.uids[ownerOf(st.pid)]
}

// elsewhere reports whether a process is in the cgroup of another worker or command, of
// this hive or another. That of a worker in which this hive itself runs says nothing,
// nor does one of the same name where it was when hive was started in another cgroup.
func (s *survey) elsewhere(t *Tree, pid int) bool {
	if s.h.mount == "" {
		return false
	}
	at, _ := s.h.of(pid)
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
	var buf [smallFile]byte
	status, err := readSmall("/proc/"+strconv.Itoa(pid)+"/status", buf[:])
	if err != nil {
		return NoUser
	}
	for line := range bytes.Lines(status) {
		ids, ok := bytes.CutPrefix(line, []byte("Uid:"))
		if !ok {
			continue
		}
		all := strings.Fields(string(ids))
		if len(all) != 4 || all[0] != all[1] || all[0] != all[2] || all[0] != all[3] {
			return NoUser
		}
		uid, err := strconv.ParseUint(all[0], 10, 32)
		if err != nil || anybody(uint32(uid)) {
			return NoUser
		}
		return uint32(uid)
	}
	return NoUser
}

// OneUser reports whether a uid, as the kernel gives it for a socket, is one user's, and
// not that of every user whom this user namespace has no number for.
func OneUser(uid uint32) bool { return uid != NoUser && !anybody(uid) }

// anybody reports whether a uid stands for every user that this user namespace has no
// number for (overflowuid, user_namespaces(7)), and not for one user alone.
func anybody(uid uint32) bool {
	overflow, err := overflowUID.get(readOverflowUID)
	return err != nil || uid == overflow
}

// readOverflowUID returns NoUser where every user has a number of its own.
func readOverflowUID() (uint32, error) {
	uids, err := os.ReadFile("/proc/self/uid_map")
	if errors.Is(err, fs.ErrNotExist) { // a kernel without user namespaces
		return NoUser, nil
	}
	if err != nil {
		return 0, err
	}
	if all := strings.Fields(string(uids)); len(all) == 3 && all[0] == "0" && all[2] == "4294967295" {
		return NoUser, nil
	}
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil {
		return 0, err
	}
	uid, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	return uint32(uid), err
}

// gainedRights reports whether a process has other rights than whoever started it, by a
// set-user-ID or set-group-ID program or file capabilities (AT_SECURE, getauxval(3)):
// then its environment is from somebody with less, though its uids may all be root's.
// What cannot be read counts as gained.
func gainedRights(pid int) bool {
	var buf [smallFile]byte
	aux, err := readSmall("/proc/"+strconv.Itoa(pid)+"/auxv", buf[:])
	if err != nil {
		return true
	}
	const atSecure = 23
	for ; len(aux) >= 16; aux = aux[16:] {
		if binary.NativeEndian.Uint64(aux) == atSecure {
			return binary.NativeEndian.Uint64(aux[8:]) != 0
		}
	}
	return true // of a 32-bit program
}

// maxEnviron bounds what is read of a process's environment: a process may say that it
// lies anywhere in its memory and is as large as that (PR_SET_MM, prctl(2)). execve(2)
// takes a quarter of the stack's limit, which is 2 MiB as a rule, and never more than 6.
const maxEnviron = 6 << 20

// stampPrefix begins the name of each stamp.
const stampPrefix = "RBEEHIVE_"

// environ returns the value of each wanted stamp in the process's environment as it is
// in its memory now. It searches rather than splits: an environment of millions of
// variables takes no longer than reading it.
func environ(pid int, names ...string) map[string]string {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return nil
	}
	defer f.Close()
	var buf bytes.Buffer
	buf.Grow(16 << 10)
	_, _ = buf.ReadFrom(io.LimitReader(f, maxEnviron)) // what there is before an error counts
	var out map[string]string
	text := buf.Bytes()
	for at := 0; ; at += len(stampPrefix) {
		next := bytes.Index(text[at:], []byte(stampPrefix))
		if next < 0 {
			return out
		}
		if at += next; at > 0 && text[at-1] != 0 {
			continue // within another
		}
		kv, _, _ := bytes.Cut(text[at:], []byte{0})
		name, value, found := bytes.Cut(kv, []byte("="))
		if found && slices.Contains(names, string(name)) {
			if out == nil {
				out = make(map[string]string, len(names))
			}
			out[string(name)] = string(value)
		}
	}
}

// ownedByHive reports whether a cgroup's directory is of hive's user or root: below a
// directory that is theirs, as the home of a user's services is, others can make cgroups
// of any name.
func ownedByHive(dir string, owner uint32) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && (st.Uid == 0 || st.Uid == owner)
}
