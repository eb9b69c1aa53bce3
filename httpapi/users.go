package httpapi

import (
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"
)

// users remembers names and groups of users for a short time: a client that opens a
// connection for each request must not have the user database read each time. It is
// safe for concurrent use.
type users struct {
	mu    sync.Mutex
	known map[uint32]userEntry
}

type userEntry struct {
	name   string
	groups []uint32
	until  time.Time
}

const (
	userFor  = 10 * time.Second // how long a change of the user database may go unseen
	maxUsers = 1024
)

func (u *users) name(uid uint32) string     { return u.of(uid).name }
func (u *users) groups(uid uint32) []uint32 { return slices.Clone(u.of(uid).groups) }

func (u *users) of(uid uint32) userEntry {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if e, ok := u.known[uid]; ok && now.Before(e.until) {
		return e
	}
	if u.known == nil || len(u.known) >= maxUsers {
		u.known = map[uint32]userEntry{}
	}
	e := lookUser(uid)
	e.until = now.Add(userFor)
	u.known[uid] = e
	return e
}

// lookUser reads the user database: in a build without cgo, as releases are, the
// files /etc/passwd and /etc/group. Who is not in it has a number and no group.
func lookUser(uid uint32) (e userEntry) {
	who, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return e
	}
	e.name = who.Username
	ids, err := who.GroupIds()
	if err != nil {
		return e
	}
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			e.groups = append(e.groups, uint32(gid))
		}
	}
	return e
}
