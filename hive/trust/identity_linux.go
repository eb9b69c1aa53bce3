package trust

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// identity is whom this process believes: root and itself.
type identity struct {
	uid uint32
	// nobody is how unmapped owners look; below 0 it is a user as any other.
	nobody int64
	alone  bool // it is PID 1
}

// self does not change while a process runs.
var self = sync.OnceValue(func() identity {
	id := identity{uid: uint32(os.Geteuid()), nobody: -1, alone: os.Getpid() == 1}
	overflow, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil {
		return id // without /proc nothing is made an exception of
	}
	uid, err := strconv.ParseUint(strings.TrimSpace(string(overflow)), 10, 32)
	if err != nil {
		return id
	}
	if uidMap, err := os.ReadFile("/proc/self/uid_map"); err == nil && !maps(uidMap, uid) {
		id.nobody = int64(uid)
	}
	return id
})

// maps reports whether a uid_map (user_namespaces(7)) has a uid. What cannot be read
// counts as one that has all.
func maps(uidMap []byte, uid uint64) bool {
	lines := bufio.NewScanner(bytes.NewReader(uidMap))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 3 {
			return true
		}
		first, errFirst := strconv.ParseUint(f[0], 10, 32)
		count, errCount := strconv.ParseUint(f[2], 10, 32)
		// What cannot be read must not make an exception.
		if errFirst != nil || errCount != nil || first <= uid && uid < first+min(count, math.MaxUint32) {
			return true
		}
	}
	return false
}

// trusts reports whether a uid is root's or hive's own.
func (id identity) trusts(uid uint32) bool {
	return (uid == 0 || uid == id.uid) && !id.unmapped(uid)
}

// unmapped reports whether a uid stands for users that cannot be told apart.
func (id identity) unmapped(uid uint32) bool { return int64(uid) == id.nobody }

// sealed reports whether nobody here can write to an open file, whatever its mode:
// package trust has the reason.
func (id identity) sealed(fd int) bool {
	var fs unix.Statfs_t
	// Only as PID 1: else the file system may be mounted writable elsewhere.
	return id.alone && unix.Fstatfs(fd, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0
}

// ownName is hive's user as an argument of chown(1).
func (id identity) ownName() string {
	if id.uid == 0 {
		return "root"
	}
	number := strconv.FormatUint(uint64(id.uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}

// owners are those who are trusted, in words.
func (id identity) owners() string {
	if id.uid == 0 {
		return "root"
	}
	return "root or " + id.ownName()
}

// byRoot is what a command that only root can run needs said.
func (id identity) byRoot() string {
	if id.uid == 0 {
		return ""
	}
	return " as root"
}

// orSeal is what else mends it in a container.
func (id identity) orSeal() string {
	if !id.alone {
		return ""
	}
	return " (on the host, if it is mounted from there; what hive only reads may also be mounted read-only)"
}
