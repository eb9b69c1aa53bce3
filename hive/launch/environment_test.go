package launch_test

import (
	"os"
	"os/user"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/launch"
	"rbeehive/hive/proc"
)

// The file says what is the machine's, the entry what is the type's: the entry wins, and
// both win over what hive has.
func TestWhoWinsInAnEnvironment(t *testing.T) {
	for _, name := range []string{"FROM_HIVE", "FROM_FILE", "FROM_ENTRY"} {
		t.Setenv(name, "hive")
	}
	env, err := environment(t, typeOf(t, catalog.Entry{EnvFile: envFile(t, "FROM_FILE=file\nFROM_ENTRY=file\n"), Env: []string{"FROM_ENTRY=entry"}}))
	require.NoError(t, err)
	for name, want := range map[string]string{"FROM_HIVE": "hive", "FROM_FILE": "file", "FROM_ENTRY": "entry", proc.KeepEnv: "1"} {
		got, _ := lookup(env, name)
		require.Equal(t, want, got, name)
	}
}

// The file is read at each start.
func TestAnEnvFileIsReadEachTime(t *testing.T) {
	file := envFile(t, "A=old\n")
	typ := typeOf(t, catalog.Entry{EnvFile: file})
	for _, want := range []string{"old", "new"} {
		require.NoError(t, os.WriteFile(file, []byte("A="+want+"\n"), 0o600))
		env, err := environment(t, typ)
		require.NoError(t, err)
		got, _ := lookup(env, "A")
		require.Equal(t, want, got)
	}
}

// The device of a spawn decides which GPUs its program sees.
func TestADevicePinsGPUs(t *testing.T) {
	typ := typeOf(t, catalog.Entry{Preset: "vllm"})
	for device, want := range map[string]string{"1": "1", "cpu": ""} {
		env, err := launch.Environment(t.Context(), typ, "", device)
		require.NoError(t, err)
		got, ok := lookup(env, "CUDA_VISIBLE_DEVICES")
		require.True(t, ok, device)
		require.Equal(t, want, got, device)
	}
}

func TestEnvironOfAnotherUser(t *testing.T) {
	t.Setenv("APP_COLOUR", "blue")
	t.Setenv("HOME", "/root-of-hive")
	own, err := launch.Environ("", []string{"A=1"})
	require.NoError(t, err)
	got, _ := lookup(own, "APP_COLOUR")
	require.Equal(t, "blue", got)
	got, _ = lookup(own, "HOME")
	require.Equal(t, "/root-of-hive", got)
	other, err := launch.Environ(outsider, []string{"A=1"})
	require.NoError(t, err)
	_, ok := lookup(other, "APP_COLOUR")
	require.False(t, ok, "what is hive's stays hive's")
	for name, want := range map[string]string{"A": "1", "HOME": "/"} {
		got, _ := lookup(other, name)
		require.Equal(t, want, got, name)
	}
	_, err = launch.Environ("no-such-user-here", nil)
	require.ErrorIs(t, err, proc.ErrUnknownUser)
}

func TestOtherUserAndWorkDir(t *testing.T) {
	me, err := user.Current()
	require.NoError(t, err)
	for name, other := range map[string]bool{"": false, me.Username: false, outsider: true} {
		got, err := launch.OtherUser(name)
		require.NoError(t, err)
		require.Equal(t, other, got, name)
		require.Equal(t, "/srv", launch.WorkDir(name, "/srv"))
		want := ""
		if other {
			want = "/" // hive's own directory may be where they must not be
		}
		require.Equal(t, want, launch.WorkDir(name, ""), name)
	}
	_, err = launch.OtherUser("no-such-user-here")
	require.ErrorIs(t, err, proc.ErrUnknownUser)
	require.Empty(t, launch.WorkDir("no-such-user-here", ""))
}
