package access

import (
	"fmt"
	"slices"
	"strings"

	"rbeehive/store"
)

// Level is how much a caller may do. The zero value is nothing.
type Level uint8

// The levels, each with everything of the ones before it.
const (
	None    Level = iota // what is public
	Read                 // read everything
	Operate              // start and stop workers of some types, lease ports
	Admin                // everything
)

// String returns the level in lower case.
func (l Level) String() string {
	return [...]string{"none", "read", "operate", "admin"}[min(l, Admin)]
}

// Rights is what a caller may do. The zero value is nothing.
type Rights struct {
	Level Level
	Types []string // with Operate: the worker types that may be started and stopped
}

// May reports whether the rights are enough for what needs this level.
func (r Rights) May(need Level) bool { return r.Level >= need }

// MayUse reports whether workers of a type may be started and stopped.
func (r Rights) MayUse(typ string) bool {
	return r.Level >= Admin || r.Level == Operate && slices.Contains(r.Types, typ)
}

// and is what two grounds give together.
func (r Rights) and(more Rights) Rights {
	out := Rights{Level: max(r.Level, more.Level)}
	if out.Level == Operate {
		out.Types = slices.Concat(r.Types, more.Types)
		slices.Sort(out.Types)
		out.Types = slices.Compact(out.Types)
	}
	return out
}

// String says the rights for a person, as `hivectl tokens list` shows them.
func (r Rights) String() string {
	if r.Level == Operate {
		return "types " + strings.Join(r.Types, ",")
	}
	return r.Level.String()
}

// Caller is who sends a request.
type Caller struct {
	// Known says that UID is the caller's.
	Known bool
	UID   uint32
	GIDs  []uint32 // all groups, as far as they are known
	User  string   // name of UID; empty: the user database has none
	PID   int      // of the process that connected; 0: not known, as over TCP
	Token string   // name of the token that was sent; empty: none
	// Own is hive itself, which starts workers without being asked.
	Own bool
	// Rights is what they may do.
	Rights Rights
}

// Hive is hive itself as the caller.
func Hive() Caller { return Caller{Own: true, Rights: Rights{Level: Admin}} }

// String names the caller for a person: "alice (uid 1000, pid 4711)", "token ci".
func (c Caller) String() string { return Name(c.Record()) }

// Record is the caller as it is written down with a job or a lease; nil: nobody is
// known.
func (c Caller) Record() *store.Requester {
	switch {
	case c.Own:
		return &store.Requester{Hive: true}
	case c.Token != "":
		return &store.Requester{Token: c.Token}
	case c.Known:
		uid := c.UID
		return &store.Requester{UID: &uid, User: c.User, PID: c.PID}
	}
	return nil
}

// Name says for a person who was written down; "unknown" for nil.
func Name(r *store.Requester) string {
	switch {
	case r == nil:
		return "unknown"
	case r.Hive:
		return "hive"
	case r.Token != "":
		return "token " + r.Token
	case r.UID == nil:
		return "unknown"
	}
	who := fmt.Sprintf("uid %d", *r.UID)
	if r.PID != 0 {
		who += fmt.Sprintf(", pid %d", r.PID)
	}
	if r.User == "" {
		return who
	}
	return r.User + " (" + who + ")"
}

// Same reports whether a caller is who was written down: the same user, or the same
// token.
func (c Caller) Same(r *store.Requester) bool {
	switch {
	case r == nil:
		return false
	case r.Token != "" || c.Token != "":
		return r.Token == c.Token
	case r.UID == nil || !c.Known:
		return false
	}
	return *r.UID == c.UID
}
