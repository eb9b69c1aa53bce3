package httpapi_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/httpapi"
)

func TestTailOffset(t *testing.T) {
	long := strings.Repeat("0123456789\n", 10_000) // several blocks
	tests := []struct {
		name, content string
		lines         int
		want          string
	}{
		{"all", "a\nb\n", -1, "a\nb\n"},
		{"none", "a\nb\n", 0, ""},
		{"one", "a\nb\n", 1, "b\n"},
		{"two", "a\nb\n", 2, "a\nb\n"},
		{"more than there are", "a\nb\n", 9, "a\nb\n"},
		{"unfinished line counts", "a\nb\nc", 2, "b\nc"},
		{"empty lines count", "a\n\n\n", 2, "\n\n"},
		{"empty file", "", 5, ""},
		{"only a newline", "\n", 1, "\n"},
		{"across blocks", long, 4000, long[len(long)-4000*11:]},
		{"one line longer than a block", "a\n" + strings.Repeat("x", 100_000), 1, strings.Repeat("x", 100_000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			require.NoError(t, os.WriteFile(path, []byte(tt.content), 0o600))
			f, err := httpapi.OpenLog(path)
			require.NoError(t, err)
			defer f.Close()
			offset, err := httpapi.TailOffset(f, tt.lines)
			require.NoError(t, err)
			_, err = f.Seek(offset, io.SeekStart)
			require.NoError(t, err)
			got, err := io.ReadAll(f)
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got))
		})
	}
}

// The path is in the record, but what lies there may have been replaced.
func TestOpenLogOpensOnlyAFile(t *testing.T) {
	dir := t.TempDir()
	_, err := httpapi.OpenLog(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, hive.ErrNotFound)

	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("x"), 0o600))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(secret, link))
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for _, path := range []string{link, fifo, dir} {
		_, err := httpapi.OpenLog(path)
		require.ErrorContains(t, err, "not a regular file", path)
	}
}
