package launch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/launch"
	"rbeehive/test/skip"
)

// envFile writes an env_file, and returns its path.
func envFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "env")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// read is the environment that a file makes.
func read(t *testing.T, text string) ([]string, error) {
	t.Helper()
	return environment(t, typeOf(t, catalog.Entry{EnvFile: envFile(t, text)}))
}

// A value is what stands behind the first =, to the end of the line.
func TestValuesAreTakenAsTheyStand(t *testing.T) {
	for line, want := range map[string]string{
		`A=b`:            `b`,
		`A=`:             ``,
		`A="b c"`:        `"b c"`,
		`A='b'`:          `'b'`,
		`A=$HOME ${X} \`: `$HOME ${X} \`,
		`A= b `:          ` b `,
		`A=b=c`:          `b=c`,
		`A=b # no`:       `b # no`,
		"A=b\r":          `b`,
		"A=\tb\r\r":      "\tb",
		`A=ä`:            `ä`,
	} {
		for _, end := range []string{"\n", ""} { // the last line may have no end
			env, err := read(t, line+end)
			require.NoError(t, err, "%q", line)
			got, ok := lookup(env, "A")
			require.True(t, ok, "%q", line)
			require.Equal(t, want, got, "%q", line)
		}
	}
}

func TestLinesThatDoNotCount(t *testing.T) {
	env, err := read(t, "\n# A=comment\r\n\r\n#\nA=1\n\nB_2=2\n_C=3\nA=4\n")
	require.NoError(t, err)
	for name, want := range map[string]string{"A": "4", "B_2": "2", "_C": "3"} {
		got, _ := lookup(env, name)
		require.Equal(t, want, got, "the last of a name wins")
	}
	empty, err := read(t, "")
	require.NoError(t, err)
	without, err := environment(t, typeOf(t, catalog.Entry{}))
	require.NoError(t, err)
	require.Equal(t, without, empty)
}

// A message names the line and what is expected, and never shows a value: it may be a secret.
func TestLinesThatAreRefused(t *testing.T) {
	for text, line := range map[string]int{
		"1A=s3cret\n":                1,
		"A=1\n\n# c\nA B=s3cret\n":   4,
		" A=s3cret\n":                1,
		"export A=s3cret\n":          1,
		"=s3cret\n":                  1,
		"A-B=s3cret\n":               1,
		"A=1\r\nä=s3cret\r\n":        2,
		"A=s3\x00cret\n":             1,
		"RBEEHIVE_STATE=s3cret\n":    1,
		"RBEEHIVE_WORKER\n":          1,
		"A=1\nRBEEHIVE_NEW=s3cret\n": 2,
	} {
		typ := typeOf(t, catalog.Entry{EnvFile: envFile(t, text)})
		_, err := environment(t, typ)
		f := requireFailure(t, err, errdefs.CodeExecFailed)
		require.Equal(t, fmt.Sprintf("env_file of worker type %q: %s:%d: expected NAME=value, or NAME to pass a variable through", "web", typ.EnvFile, line), f.Message, "%q", text)
	}
}

// A name alone hands on what hive has, also what workers do not get by themselves.
func TestANamePassesAVariableThrough(t *testing.T) {
	t.Setenv("HIVETEST_TOKEN", "s3cret")
	t.Setenv("LISTEN_FDS", "3")
	t.Setenv("HIVE_TOKEN", "s3cret")
	env, err := read(t, "HIVETEST_TOKEN\nLISTEN_FDS\nHIVE_TOKEN\nNOT_SET_ANYWHERE\n")
	require.NoError(t, err)
	got, _ := lookup(env, "HIVETEST_TOKEN")
	require.Equal(t, "s3cret", got)
	for _, name := range []string{"LISTEN_FDS", "HIVE_TOKEN", "NOT_SET_ANYWHERE"} {
		_, ok := lookup(env, name)
		require.False(t, ok, name)
	}
}

// execve takes no more: a file that is larger is a mistake, or somebody's joke.
func TestAFileHasABound(t *testing.T) {
	const most = 1 << 20
	env, err := read(t, "A="+strings.Repeat("x", most-2)) // in one line
	require.NoError(t, err)
	got, _ := lookup(env, "A")
	require.Len(t, got, most-2)
	typ := typeOf(t, catalog.Entry{EnvFile: envFile(t, strings.Repeat("#\n", most/2)+"#")})
	_, err = environment(t, typ)
	require.EqualError(t, err, fmt.Sprintf("exec_failed: env_file of worker type \"web\": %s is larger than %d bytes", typ.EnvFile, most))
}

// hive reads with its own rights what it believes: nobody else may have written it.
func TestAFileThatIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(path("open"), []byte("A=s3cret\n"), 0o600))
	require.NoError(t, os.Chmod(path("open"), 0o666))
	require.NoError(t, unix.Mkfifo(path("fifo"), 0o600))
	require.NoError(t, os.Mkdir(path("dir"), 0o700))
	for name, want := range map[string]string{
		"open": "can be written to by every user", "fifo": "is a fifo, not a regular file", "dir": "is a directory, not a regular file", "nothing": "no such file or directory",
	} {
		_, err := environment(t, typeOf(t, catalog.Entry{EnvFile: path(name)}))
		f := requireFailure(t, err, errdefs.CodeExecFailed)
		require.Contains(t, f.Message, `env_file of worker type "web": `, name)
		require.Contains(t, f.Message, want, name)
		require.NotContains(t, f.Message, "s3cret")
	}
}

// Of another user the file may be whatever that user has made in its place.
func TestAFileOfAnotherUser(t *testing.T) {
	skip.UnlessRoot(t, "only root reads with another user's rights")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	t.Setenv("LC_TIME", "C")
	file := filepath.Join(publicDir(t), "env")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("TAKEN=s3cret\n"), 0o644))
	write := func(text string, mode os.FileMode) error { return os.WriteFile(file, []byte(text), mode) }
	typ := typeOf(t, catalog.Entry{EnvFile: file, User: outsider})
	for name, c := range map[string]struct {
		put  func() error
		want string
	}{
		"a link to what it cannot read": {func() error { return os.Symlink(secret, file) }, "permission denied: user " + outsider + ", whom the worker runs as, must be able to read it"},
		"a file of root's":              {func() error { return write("TAKEN=s3cret\n", 0o600) }, "permission denied: user " + outsider},
		"a pipe":                        {func() error { return unix.Mkfifo(file, 0o666) }, "not a regular file"},
		"an endless device":             {func() error { return os.Symlink("/dev/zero", file) }, "not a regular file"},
		"too much":                      {func() error { return write(strings.Repeat("#", 1<<20+1), 0o644) }, "is larger than 1048576 bytes"},
		"hive's secrets by name": {
			func() error { return write("A=b\nAWS_SECRET_ACCESS_KEY\n", 0o644) },
			"env:2: AWS_SECRET_ACCESS_KEY of hive's own environment is not handed on to another user by a file that this user may have written; name it in env of the entry",
		},
	} {
		require.NoError(t, c.put(), name)
		begun := time.Now()
		_, err := environment(t, typ)
		require.Less(t, time.Since(begun), 10*time.Second)
		f := requireFailure(t, err, errdefs.CodeExecFailed)
		require.Contains(t, f.Message, c.want, name)
		require.NotContains(t, f.Message, "s3cret", name)
		require.NoError(t, os.Remove(file))
	}
	require.NoError(t, write("A=b\nLC_TIME\n", 0o600))
	require.NoError(t, os.Chown(file, 54321, 54322))
	env, err := environment(t, typ)
	require.NoError(t, err)
	for name, want := range map[string]string{"A": "b", "LC_TIME": "C"} {
		got, _ := lookup(env, name)
		require.Equal(t, want, got)
	}
	// The entry is an administrator's.
	env, err = environment(t, typeOf(t, catalog.Entry{EnvFile: file, User: outsider, Env: []string{"AWS_SECRET_ACCESS_KEY"}}))
	require.NoError(t, err)
	got, _ := lookup(env, "AWS_SECRET_ACCESS_KEY")
	require.Equal(t, "s3cret", got)
}

func TestAFileOfAUserWhoIsNotKnown(t *testing.T) {
	_, err := environment(t, typeOf(t, catalog.Entry{EnvFile: envFile(t, "A=b\n"), User: "no-such-user-here"}))
	f := requireFailure(t, err, errdefs.CodeExecFailed)
	require.Contains(t, f.Message, `unknown user`)
	_, err = launch.Environment(t.Context(), typeOf(t, catalog.Entry{}), "no-such-user-here", "")
	f = requireFailure(t, err, errdefs.CodeExecFailed)
	require.Contains(t, f.Message, `user of worker type "web": unknown user`)
}
