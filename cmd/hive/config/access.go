package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"

	"rbeehive/hive/access"
)

// adminGroup is the group whose members may do everything, unless access.admin says
// otherwise; the package makes it.
const adminGroup = "hive"

// principals is a set of users and groups of the configuration, by name or number.
type principals struct {
	Users  []string `mapstructure:"users"`
	Groups []string `mapstructure:"groups"`
}

type accessKeys struct {
	Admin   *principals `key:"admin"`
	Read    *principals `key:"read"`
	TCPRoot bool        `key:"tcp_root" default:"true"`
}

// checkAccess makes the policy, except for what entries allow.
func (l *loader) checkAccess(s *settings) {
	p := &access.Policy{Mode: s.Auth, OwnUID: uint32(l.opts.UID), NoTCPRoot: !s.Access.TCPRoot} //nolint:gosec // a uid, which is 32 bits wide
	if s.Access.Admin == nil {
		gids, why := defaultAdmins(s.Config.Socket.GID)
		if why != "" {
			l.fail("access.admin.groups", "%s", why)
		}
		p.Admin.GIDs = gids
	} else {
		p.Admin = l.set("access.admin", *s.Access.Admin)
	}
	if s.Access.Read != nil {
		p.Read = l.set("access.read", *s.Access.Read)
	}
	s.Config.Access = p
}

// defaultAdmins is the group hive, where there is one, and that of the socket: who may open
// it is expected to use it.
func defaultAdmins(socketGID int) (gids []uint32, why string) {
	if socketGID >= 0 {
		gids = append(gids, uint32(socketGID)) //nolint:gosec // a gid, which is 32 bits wide
	}
	g, err := user.LookupGroup(adminGroup)
	if errors.As(err, new(user.UnknownGroupError)) || errors.Is(err, fs.ErrNotExist) { // an image without /etc/group
		return gids, ""
	}
	if err != nil {
		return nil, fmt.Sprintf("look up the group %s: %v; name the groups, or [] for none", adminGroup, err)
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Sprintf("the group %s has the number %q; name the groups, or [] for none", adminGroup, g.Gid)
	}
	return append(gids, uint32(gid)), ""
}

func (l *loader) set(path string, w principals) access.Set {
	set, wrong := setOf(w)
	for _, f := range wrong {
		l.fail(path+"."+f.key, "%s", f.reason)
	}
	return set
}

// setOf finds the numbers of users and groups.
func setOf(w principals) (set access.Set, wrong []flaw) {
	set.UIDs = idsOf("user", w.Users, &wrong, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	set.GIDs = idsOf("group", w.Groups, &wrong, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	return set, wrong
}

func idsOf(kind string, names []string, wrong *[]flaw, find func(string) (string, error)) (ids []uint32) {
	for i, name := range names {
		id, why := lookupID(name, kind, find)
		if why != "" {
			*wrong = append(*wrong, flaw{fmt.Sprintf("%ss[%d]", kind, i), why})
			continue
		}
		ids = append(ids, id)
	}
	return ids
}

// lookupID returns the number of a user or group, given by name or number.
func lookupID(name, kind string, find func(string) (string, error)) (id uint32, why string) {
	text := name
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		if text, err = find(name); err == nil {
			n, err = strconv.ParseUint(text, 10, 32)
		}
	}
	switch {
	case err != nil:
		return 0, fmt.Sprintf("%q: no such %s; expected a name or a number of this machine's user database", name, kind)
	case n == access.OverflowID:
		return 0, fmt.Sprintf("%q: %d is the overflow id, which stands for every %s without a number here; choose another", name, n, kind)
	}
	return uint32(n), ""
}
