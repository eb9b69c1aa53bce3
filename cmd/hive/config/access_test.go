package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
)

func TestAccessMistakes(t *testing.T) {
	for _, mistake := range [][2]string{
		{"access: {admin: {users: [no-such-user-x]}}\n", `hive.yaml:1: access.admin.users[0]: "no-such-user-x": no such user; expected a name or a number`},
		{"access: {read: {groups: [root, no-such-group-x]}}\n", `hive.yaml:1: access.read.groups[1]: "no-such-group-x": no such group`},
		{"access: {admin: {users: [65534]}}\n", `hive.yaml:1: access.admin.users[0]: "65534": 65534 is the overflow id, which stands for every user without a number here`},
		{"access: {admin: {user: [root]}}\n", `hive.yaml:1: access.admin: unknown key "user"; did you mean "users"?`},
		{"access: {tcp_root: 1}\n", "hive.yaml:1: access.tcp_root: 1: expected true or false"},
		{"access: {admin: {users: root x}}\n", `hive.yaml:1: access.admin.users: expected a list, as in ["a", "b"]`},
		{"ports: {per_user: 0}\n", "hive.yaml:1: ports.per_user: 0: expected at least 1"},
		{"workers:\n  - name: x\n    command: [/bin/x]\n    allow: {users: [no-such-user-x]}\n", `hive.yaml:4: workers[0] (x): allow.users[0]: "no-such-user-x": no such user`},
		{"workers:\n  - name: x\n    command: [/bin/x]\n    allow: {token: [ci]}\n", `hive.yaml:4: workers[0] (x): allow: unknown key "token"; did you mean "tokens"?`},
		{"workers:\n  - name: x\n    command: [/bin/x]\n    allow: {groups: [no-such-group-x]}\n", `hive.yaml:4: workers[0] (x): allow.groups[0]: "no-such-group-x": no such group`},
	} {
		doc, want := mistake[0], mistake[1]
		p := newPlace(t)
		p.write(t, "hive.yaml", doc)
		_, err := p.load(t)
		require.ErrorContains(t, err, want, doc)
	}
}

// Who says nothing about admins has the group hive, if there is one; who says
// something has exactly that.
func TestAccessOfGroups(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", "socket: {group: 0}\n")
	c, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, append([]uint32{0}, hiveGroup(t)...), c.Access.Admin.GIDs, "who may open the socket is meant to use it")
	p.write(t, "hive.yaml", "access: {admin: {groups: []}}\n")
	c, err = p.load(t)
	require.NoError(t, err)
	require.Empty(t, c.Access.Admin)
	require.Equal(t, access.Rights{}, c.Access.OfUser(access.Caller{Known: true, UID: 4321, GIDs: []uint32{0}}, access.Connection{}))
}
