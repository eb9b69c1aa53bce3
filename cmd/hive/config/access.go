package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"slices"
	"strconv"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
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
func (l *loader) checkAccess(s *settings, c *Config) error {
	p := &access.Policy{Mode: c.Auth, OwnUID: uint32(l.opts.UID), NoTCPRoot: !s.Access.TCPRoot} //nolint:gosec // a uid, which is 32 bits wide
	var err error
	if s.Access.Admin == nil {
		if p.Admin.GIDs, err = defaultAdmins(c.Socket.GID); err != nil {
			return err
		}
	} else if p.Admin, err = l.set("access.admin", *s.Access.Admin); err != nil {
		return err
	}
	if s.Access.Read != nil {
		if p.Read, err = l.set("access.read", *s.Access.Read); err != nil {
			return err
		}
	}
	c.Access = p
	return nil
}

// defaultAdmins is the group hive, where there is one, and that of the socket: who may open
// it is expected to use it.
func defaultAdmins(socketGID int) (gids []uint32, err error) {
	if socketGID >= 0 {
		gids = append(gids, uint32(socketGID)) //nolint:gosec // a gid, which is 32 bits wide
	}
	g, err := user.LookupGroup(adminGroup)
	if errors.As(err, new(user.UnknownGroupError)) || errors.Is(err, fs.ErrNotExist) { // an image without /etc/group
		return gids, nil
	}
	if err != nil {
		return nil, &Error{Source: "access.admin.groups", Reason: fmt.Sprintf("look up the group %s: %v; name the groups, or [] for none", adminGroup, err)}
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return nil, &Error{Source: "access.admin.groups", Reason: fmt.Sprintf("the group %s has the number %q", adminGroup, g.Gid)}
	}
	return append(gids, uint32(gid)), nil
}

func (l *loader) set(path string, w principals) (access.Set, error) {
	set, key, why := setOf(w)
	if why != "" {
		return set, l.fail(path+"."+key, "%s", why)
	}
	return set, nil
}

// setOf finds the numbers of users and groups; key and why say which is wrong.
func setOf(w principals) (set access.Set, key, why string) {
	for i, name := range w.Users {
		uid, why := lookupID(name, "user", func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		if why != "" {
			return set, fmt.Sprintf("users[%d]", i), why
		}
		set.UIDs = append(set.UIDs, uid)
	}
	for i, name := range w.Groups {
		gid, why := lookupID(name, "group", func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		if why != "" {
			return set, fmt.Sprintf("groups[%d]", i), why
		}
		set.GIDs = append(set.GIDs, gid)
	}
	return set, "", ""
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

// allowTypes adds to the policy what entries allow: a policy of its own, since the one
// before may be in use.
func (c *Config) allowTypes() error {
	p := *c.Access
	p.Types = nil
	for i, e := range c.Workers {
		if len(e.Allow.Users)+len(e.Allow.Groups)+len(e.Allow.Tokens) == 0 {
			continue
		}
		set, key, why := setOf(principals{Users: e.Allow.Users, Groups: e.Allow.Groups})
		if why != "" {
			return &Error{Source: c.entrySource(i, &e, "allow."+key), Reason: why}
		}
		if p.Types == nil {
			p.Types = map[string]access.Allowed{}
		}
		p.Types[e.Name] = access.Allowed{Set: set, Tokens: slices.Clone(e.Allow.Tokens)}
	}
	c.Access = &p
	return nil
}

// entrySource says where a key of an entry is.
func (c *Config) entrySource(i int, e *catalog.Entry, key string) string {
	if e.File != "" {
		return e.File + ": " + key
	}
	return fmt.Sprintf("%s: workers[%d]: %s", c.File, i, key)
}
