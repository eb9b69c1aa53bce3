package access_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/store"
)

func user(uid uint32, gids ...uint32) access.Caller {
	return access.Caller{Known: true, UID: uid, GIDs: gids}
}

func TestWhoMay(t *testing.T) {
	admin, read, none := access.Rights{Level: access.Admin}, access.Rights{Level: access.Read}, access.Rights{}
	uses := func(types ...string) access.Rights { return access.Rights{Level: access.Operate, Types: types} }
	p := &access.Policy{
		OwnUID: 1000,
		Admin:  access.Set{UIDs: []uint32{1, access.OverflowID}, GIDs: []uint32{10, access.OverflowID}},
		Read:   access.Set{UIDs: []uint32{2}, GIDs: []uint32{20}},
		Types: map[string]access.Allowed{
			"llama": {Set: access.Set{UIDs: []uint32{3}, GIDs: []uint32{20}}, Tokens: []string{"ci"}},
			"sd":    {Set: access.Set{UIDs: []uint32{3, 2}}},
		},
	}
	tcp, unix := access.Connection{TCP: true}, access.Connection{}
	passed := access.Connection{TCP: true, Forwarded: true}
	for name, c := range map[string]struct {
		who  access.Caller
		by   access.Connection
		want access.Rights
	}{
		"nobody known":             {access.Caller{}, tcp, none},
		"not known, as uid 0":      {access.Caller{UID: 0}, unix, none},
		"root":                     {user(0), tcp, admin},
		"hive's own user":          {user(1000), tcp, admin},
		"a stranger":               {user(4711, 100), tcp, none},
		"an admin":                 {user(1), tcp, admin},
		"of a group of admins":     {user(4711, 5, 10), unix, admin},
		"may look and use one":     {user(2), tcp, uses("sd")},
		"of a group that may look": {user(4711, 20), tcp, uses("llama")},
		"may use two":              {user(3), unix, uses("llama", "sd")},
		"overflow uid":             {user(access.OverflowID, 10), unix, none},
		"overflow gid":             {user(4711, access.OverflowID), unix, none},
		"root through a proxy":     {user(0), passed, none},
		"a proxy's own socket":     {user(1), access.Connection{Forwarded: true}, none},
	} {
		require.Equal(t, c.want, p.OfUser(c.who, c.by), name)
	}

	noRoot := *p
	noRoot.NoTCPRoot = true
	require.Equal(t, none, noRoot.OfUser(user(0), tcp))
	require.Equal(t, none, noRoot.OfUser(user(1000), tcp))
	require.Equal(t, admin, noRoot.OfUser(user(0), unix))
	require.Equal(t, admin, noRoot.OfUser(user(1), tcp), "who is named is still known")

	byToken := *p
	byToken.Mode = access.ByToken
	require.Equal(t, none, byToken.OfUser(user(1), tcp))
	require.Equal(t, admin, byToken.OfUser(user(1), unix))

	open := access.Policy{Mode: access.Anyone}
	require.Equal(t, admin, open.OfUser(access.Caller{}, passed))

	require.Equal(t, uses("llama"), p.OfToken("ci", read))
	require.Equal(t, uses("llama", "x"), p.OfToken("ci", uses("x", "llama")))
	require.Equal(t, read, p.OfToken("other", read))
	require.Equal(t, admin, p.OfToken("ci", admin))
	require.Equal(t, read, (&access.Policy{OwnUID: 7, Read: access.Set{UIDs: []uint32{2}}}).OfUser(user(2), tcp))
}

func TestRights(t *testing.T) {
	r := access.Rights{Level: access.Operate, Types: []string{"llama"}}
	require.True(t, r.May(access.Read))
	require.False(t, r.May(access.Admin))
	require.True(t, r.MayUse("llama"))
	require.False(t, r.MayUse("llam"))
	require.False(t, access.Rights{Level: access.Read, Types: []string{"llama"}}.MayUse("llama"))
	require.True(t, access.Rights{Level: access.Admin}.MayUse("anything"))
	require.Equal(t, "types llama", r.String())
	require.Equal(t, "admin", access.Rights{Level: access.Admin}.String())
}

func TestNames(t *testing.T) {
	alice := user(1000)
	alice.User, alice.PID = "alice", 4711
	require.Equal(t, "alice (uid 1000, pid 4711)", alice.String())
	require.Equal(t, "uid 12", user(12).String())
	require.Equal(t, "unknown", access.Caller{}.String())
	require.Equal(t, "token ci", access.Caller{Token: "ci"}.String())
	require.Equal(t, "hive", access.Hive().String())
}

func TestSame(t *testing.T) {
	uid := uint32(1000)
	of := &store.Requester{UID: &uid, PID: 4711}
	require.True(t, user(1000).Same(of), "another process of the same user")
	require.False(t, user(1001).Same(of))
	require.False(t, access.Caller{UID: 1000}.Same(of), "not known")
	require.False(t, access.Caller{}.Same(nil))
	require.False(t, access.Caller{Known: true, UID: 1000, Token: "ci"}.Same(of), "the token counts")
	require.True(t, access.Caller{Token: "ci"}.Same(&store.Requester{Token: "ci"}))
	require.False(t, access.Caller{}.Same(&store.Requester{Hive: true}))
}
