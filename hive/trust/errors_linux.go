package trust

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
)

// The sentences of an *Error: what is wrong with it, what follows from that, what to do.

// foreign is the error for an entry of another user.
func (w *walk) foreign(e *entry) error {
	uid := e.stat.Uid
	reason := fmt.Sprintf("belongs to %s (mode %04o), who could ", nameOf(uid), e.stat.Mode&0o7777)
	if w.self.unmapped(uid) {
		reason = fmt.Sprintf("belongs to a user that this user namespace does not map (shown as uid %d), so that it is not known who could ", uid)
	}
	err := &Error{Path: e.path, Reason: reason + w.harm(e)}
	command := "chown "
	// -h: else chown changes what the link leads to.
	if e.as == followed {
		command = "chown -h "
	}
	command += w.self.ownName() + " " + quote(e.path)
	switch {
	case w.self.unmapped(uid):
		err.Remedy = "copy it to where hive's user is the owner, or map its owner (user_namespaces(7))"
	// A directory on the way may be needed by others, so chown is the second choice.
	case e.as == passed:
		err.Remedy = fmt.Sprintf("keep it below directories of %s, or run%s: %s", w.self.owners(), w.self.byRoot(), command)
	default:
		err.Remedy = fmt.Sprintf("run%s: %s", w.self.byRoot(), command)
	}
	err.Remedy += w.self.orSeal()
	return err
}

// writableByOthers is the error for what others may write to. It tells of the first
// and names all.
func (w *walk) writableByOthers() error {
	first := &w.loose[0]
	who := "its group"
	if first.stat.Mode&0o002 != 0 {
		who = "every user"
	}
	var paths []string
	// All of them: one at a time would take many tries.
	for i := range w.loose {
		paths = append(paths, quote(w.loose[i].path))
	}
	return &Error{
		Path:   first.path,
		Reason: fmt.Sprintf("can be written to by %s (owner %s, gid %d, mode %04o), who could %s", who, nameOf(first.stat.Uid), first.stat.Gid, first.stat.Mode&0o7777, w.harm(first)),
		Remedy: "run: chmod go-w " + strings.Join(paths, " ") + w.self.orSeal(),
	}
}

// harm is what the owner of an entry, or who may write to it, could do.
func (w *walk) harm(e *entry) string {
	if e.as == passed || e.as == followed {
		return "put something else in the place of " + w.goal
	}
	return "change what hive does as " + w.self.ownName()
}

// nameOf is a user for a person: "root", "alice (uid 1000)" or "uid 1000".
func nameOf(uid uint32) string {
	if uid == 0 {
		return "root"
	}
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username + " (uid " + number + ")"
	}
	return "uid " + number
}
