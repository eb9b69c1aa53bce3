package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
	"rbeehive/test/skip"
)

func TestTokenIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	token, err := main.LoadToken(dir, true)
	require.NoError(t, err)
	require.Regexp(t, `^[A-Z2-7]{52}$`, token) // 5 bits each
	path := filepath.Join(dir, "token")
	require.Equal(t, os.FileMode(0o600), mode(t, path))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, token+"\n", string(text))
	again, err := main.LoadToken(dir, true)
	require.NoError(t, err)
	require.Equal(t, token, again)
	other, err := main.LoadToken(t.TempDir(), true)
	require.NoError(t, err)
	require.NotEqual(t, token, other)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file is left")
}

// Two hives that start at once on one directory: only one gets the state file, and
// its token must be the one in the directory.
func TestTokenOfManyStartsAtOnce(t *testing.T) {
	dir := t.TempDir()
	tokens := make([]string, 16)
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			var err error
			if tokens[i], err = main.LoadToken(dir, true); err != nil {
				tokens[i] = err.Error()
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(filepath.Join(dir, "token"))
	require.NoError(t, err)
	for _, token := range tokens {
		require.Equal(t, strings.TrimSpace(string(text)), token)
	}
}

func TestTokenOfOnesOwn(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "  my-own.token_~+/=!\n\n")
	token, err := main.LoadToken(dir, true)
	require.NoError(t, err)
	require.Equal(t, "my-own.token_~+/=!", token)
}

func TestTokenThatIsRefused(t *testing.T) {
	secret := strings.Repeat("S", 40)
	for name, tc := range map[string]struct {
		make func(path string) error
		want string
	}{
		"group":     {func(p string) error { return os.Chmod(p, 0o640) }, "is open to others (mode 0640); run: chmod 600 "},
		"others":    {func(p string) error { return os.Chmod(p, 0o604) }, "is open to others (mode 0604); run: chmod 600 "},
		"writable":  {func(p string) error { return os.Chmod(p, 0o620) }, "is open to others (mode 0620); run: chmod 600 "},
		"empty":     {func(p string) error { return os.Truncate(p, 0) }, "is empty; remove it"},
		"blank":     {func(p string) error { return os.WriteFile(p, []byte(" \n"), 0o600) }, "is empty; remove it"},
		"too long":  {func(p string) error { return os.WriteFile(p, []byte(strings.Repeat(secret, 103)), 0o600) }, "has more than 4096 bytes"},
		"two lines": {func(p string) error { return os.WriteFile(p, []byte(secret+"\n"+secret), 0o600) }, "has other characters than printable ASCII without blanks, or several lines"},
		"control":   {func(p string) error { return os.WriteFile(p, []byte(secret+"\x00"), 0o600) }, "has other characters"},
		"umlaut":    {func(p string) error { return os.WriteFile(p, []byte(secret+"ü"), 0o600) }, "has other characters"},
		"link": {func(p string) error {
			if err := os.Rename(p, p+".real"); err != nil {
				return err
			}
			return os.Symlink(p+".real", p)
		}, "is a symbolic link; expected a regular file"},
		"dangling link": {func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return os.Symlink(p+".gone", p)
		}, "is a symbolic link; expected a regular file"},
		"directory": {func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return os.Mkdir(p, 0o700)
		}, "is not a regular file"},
		"fifo": {func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return syscall.Mkfifo(p, 0o600)
		}, "is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "token")
			write(t, path, secret)
			require.NoError(t, tc.make(path))
			_, err := main.LoadToken(dir, true)
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, path)
			require.NotContains(t, err.Error(), secret)
		})
	}
}

func TestTokenOfSomebodyElse(t *testing.T) {
	skip.UnlessRoot(t, "only root can give a file away")
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	write(t, path, "secret-of-another")
	require.NoError(t, os.Chown(path, 54321, -1))
	_, err := main.LoadToken(dir, true)
	require.EqualError(t, err, "the token "+path+" belongs to the user with uid 54321, and hive runs as 0; run: chown 0 "+path)
}
