package proc

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// Credential is a user as whom a program can be started.
type Credential struct {
	UID, GID uint32
	Groups   []uint32 // all of the user's groups
	Home     string   // "/" where the user database has none
	Name     string   // the number where the user database has none
}

// Other reports whether it is another user than the one hive runs as.
func (c Credential) Other() bool {
	return os.Geteuid() != int(c.UID) || os.Getegid() != int(c.GID)
}

// NoNewPrivs reports whether programs of a user start with no_new_privs (see
// Spec.NoNewPrivs). user is in the form of LookUser, empty for hive's own. Errors:
// those of LookUser.
func NoNewPrivs(user string, asked *bool) (bool, error) {
	if asked != nil {
		return *asked, nil
	}
	if user == "" {
		return false, nil
	}
	c, err := LookUser(user)
	return c.unprivileged(), err
}

// unprivileged reports whether a program of this user has fewer rights than hive.
func (c Credential) unprivileged() bool { return c.Other() && c.UID != 0 }

// LookUser reads a user from the system's user database. name is a user's name;
// a number, which is the uid of a user in the database; or "uid:gid", which need
// not be there and has that one group and no other. An error wraps ErrUnknownUser,
// or is from reading the database. A hive that was built without cgo, as releases
// are, knows the users and groups of /etc/passwd and /etc/group only. Safe for
// concurrent use.
func LookUser(name string) (Credential, error) {
	if uid, gid, ok := strings.Cut(name, ":"); ok {
		return numericUser(name, uid, gid)
	}
	// A number is a uid, even if some user should have it for a name.
	var u *user.User
	var err error
	if uid, ok := parseID(name); ok {
		u, err = user.LookupId(strconv.FormatUint(uint64(uid), 10))
	} else if name == "" {
		return Credential{}, fmt.Errorf("%w: no user given", ErrUnknownUser)
	} else {
		u, err = user.Lookup(name)
	}
	var noID user.UnknownUserIdError
	var noName user.UnknownUserError
	switch {
	case errors.As(err, &noID):
		return Credential{}, fmt.Errorf("%w: nobody has the uid %s here; give \"uid:gid\"", ErrUnknownUser, name)
	case errors.As(err, &noName):
		return Credential{}, fmt.Errorf("%w: %q", ErrUnknownUser, name)
	case err != nil:
		return Credential{}, fmt.Errorf("look up user %q: %w", name, err)
	}
	return credentialOf(u)
}

func credentialOf(u *user.User) (Credential, error) {
	uid, okUID := parseID(u.Uid)
	gid, okGID := parseID(u.Gid)
	if !okUID || !okGID {
		return Credential{}, fmt.Errorf("%w: %q has the uid %q and the gid %q", ErrUnknownUser, u.Username, u.Uid, u.Gid)
	}
	// With all supplementary groups, as after a login.
	ids, err := u.GroupIds()
	if err != nil {
		return Credential{}, fmt.Errorf("groups of user %q: %w", u.Username, err)
	}
	c := Credential{UID: uid, GID: gid, Home: u.HomeDir, Name: u.Username}
	for _, id := range ids {
		group, ok := parseID(id)
		if !ok {
			return Credential{}, fmt.Errorf("%w: %q is in the group %q, which is no number", ErrUnknownUser, u.Username, id)
		}
		c.Groups = append(c.Groups, group)
	}
	if c.Home == "" {
		c.Home = "/"
	}
	return c, nil
}

func numericUser(name, uidText, gidText string) (Credential, error) {
	uid, okUID := parseID(uidText)
	gid, okGID := parseID(gidText)
	if !okUID || !okGID {
		return Credential{}, fmt.Errorf("%w: %q is not \"uid:gid\", two numbers", ErrUnknownUser, name)
	}
	c := Credential{UID: uid, GID: gid, Groups: []uint32{gid}, Home: "/", Name: uidText}
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		c.Name = u.Username
		if u.HomeDir != "" {
			c.Home = u.HomeDir
		}
	}
	return c, nil
}

// parseID refuses the highest number: to the system calls it means "leave it".
func parseID(s string) (uint32, bool) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, false // a sign
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n < math.MaxUint32
}
