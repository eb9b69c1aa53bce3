package proc_test

import (
	"os/user"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
)

func TestLookUser(t *testing.T) {
	own, err := user.LookupId("0")
	require.NoError(t, err)
	const uid, gid = 0, 0
	for _, name := range []string{own.Username, own.Uid} {
		c, err := proc.LookUser(name)
		require.NoError(t, err)
		require.Equal(t, uint32(uid), c.UID)
		require.Equal(t, uint32(gid), c.GID)
		require.Contains(t, c.Groups, uint32(gid))
		require.Equal(t, own.HomeDir, c.Home)
		require.Equal(t, own.Username, c.Name)
		require.Equal(t, []string{"SPT_NOENV=1", "HOME=" + own.HomeDir, "USER=" + own.Username, "LOGNAME=" + own.Username}, c.Environ(nil, nil))
	}
	// A known uid with another group: the name and the home are the user's, the groups are not.
	c, err := proc.LookUser(own.Uid + ":54321")
	require.NoError(t, err)
	require.Equal(t, proc.Credential{UID: uint32(uid), GID: 54321, Groups: []uint32{54321}, Home: own.HomeDir, Name: own.Username}, c)
	// Nobody in the database, as is usual in containers.
	c, err = proc.LookUser("3123456789:54321")
	require.NoError(t, err)
	require.Equal(t, proc.Credential{UID: 3123456789, GID: 54321, Groups: []uint32{54321}, Home: "/", Name: "3123456789"}, c)
}

func TestLookUserRefuses(t *testing.T) {
	for name, says := range map[string]string{
		"":                "no user given",
		"no-such-user-42": `"no-such-user-42"`,
		"3123456789":      `give "uid:gid"`,
		"nobody:nogroup":  "two numbers",
		"1:":              "two numbers",
		":1":              "two numbers",
		"1:2:3":           "two numbers",
		"-1:1":            "two numbers",
		"+1:1":            "two numbers",
		"4294967295:1":    "two numbers", // (uid_t)-1 means "leave it" to the kernel
		"1:4294967295":    "two numbers",
		"4294967296:1":    "two numbers",
	} {
		_, err := proc.LookUser(name)
		require.ErrorIs(t, err, proc.ErrUnknownUser, name)
		require.ErrorContains(t, err, says, name)
	}
}
