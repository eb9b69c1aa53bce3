package access

import (
	"maps"
	"slices"
)

// Mode is whether callers are recognised at all.
type Mode string

// The modes.
const (
	ByUser  Mode = "users" // who connects decides, or a token
	ByToken Mode = "token" // over TCP only a token counts
	Anyone  Mode = "none"  // everybody who reaches hive may do everything
)

// Set is some users and groups, by number.
type Set struct {
	UIDs, GIDs []uint32
}

// has reports whether a caller is in the set. The overflow uid is in none.
func (s Set) has(c Caller) bool {
	if !c.Known || c.UID == OverflowID {
		return false
	}
	return slices.Contains(s.UIDs, c.UID) || slices.ContainsFunc(c.GIDs, func(gid uint32) bool {
		return gid != OverflowID && slices.Contains(s.GIDs, gid)
	})
}

// OverflowID stands for users and groups that a namespace has no number for
// (user_namespaces(7), /proc/sys/kernel/overflowuid).
const OverflowID = 65534

// Allowed is who besides admins may use one worker type.
type Allowed struct {
	Set
	Tokens []string
}

// Policy is the configuration's word about who may do what. The zero value admits
// nobody but root and, as OwnUID is 0, nobody else.
type Policy struct {
	Mode Mode // empty is ByUser
	// OwnUID is the effective user of hive, who is admin as root is.
	OwnUID uint32
	// NoTCPRoot: root and hive's own user are not recognised over TCP.
	NoTCPRoot bool
	Admin     Set
	Read      Set
	Types     map[string]Allowed // by name of the worker type
}

// Connection is how a caller has connected.
type Connection struct {
	TCP bool // else over a unix socket
	// Forwarded: the request says that it was passed on. Then the one who connected
	// is not the one who asks.
	Forwarded bool
}

// OfUser is what the kernel's word about a caller is worth.
func (p *Policy) OfUser(c Caller, by Connection) Rights {
	if p.Mode == Anyone {
		return Rights{Level: Admin}
	}
	if !c.Known || c.UID == OverflowID || by.Forwarded || by.TCP && p.Mode == ByToken {
		return Rights{}
	}
	if c.UID == 0 || c.UID == p.OwnUID {
		if by.TCP && p.NoTCPRoot {
			return Rights{}
		}
		return Rights{Level: Admin}
	}
	var r Rights
	switch {
	case p.Admin.has(c):
		r.Level = Admin
	case p.Read.has(c):
		r.Level = Read
	}
	return r.and(p.types(func(a Allowed) bool { return a.has(c) }))
}

// OfToken is what a token may do that was made with these rights.
func (p *Policy) OfToken(name string, made Rights) Rights {
	return made.and(p.types(func(a Allowed) bool { return slices.Contains(a.Tokens, name) }))
}

// types is the right to use each type whose list matches.
func (p *Policy) types(match func(Allowed) bool) Rights {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(p.Types)) {
		if match(p.Types[name]) {
			names = append(names, name)
		}
	}
	if names == nil {
		return Rights{}
	}
	return Rights{Level: Operate, Types: names}
}
