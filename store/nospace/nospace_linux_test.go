package nospace_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/store/nospace"
	"rbeehive/test/skip"
)

const ownMounts = "HIVE_TEST_SMALL_DISK" // this process has mounts of its own

// Bytes and inodes run out with one error, which says nothing of the two.
func TestWhatHasRunOut(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		skip.UnlessRoot(t, "mounting a small file system needs root")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWhatHasRunOut$")
		cmd.Env = append(os.Environ(), ownMounts+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for options, want := range map[string]string{
		"size=1m":                "is full: free some space there",
		"size=1m,nr_inodes=32":   "no inodes are left in the file system of ",
		"size=1m,nr_inodes=2000": "is full: free some space there",
	} {
		dir := t.TempDir()
		require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, options))
		var err error
		for i := 0; err == nil; i++ {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), make([]byte, 4096), 0o600)
		}
		require.True(t, nospace.Is(err), "%v", err)
		require.Contains(t, nospace.Why(dir, err), want, options)
		if options == "size=1m,nr_inodes=32" {
			left, err := nospace.In(dir)
			require.NoError(t, err)
			require.Zero(t, left.Inodes)
			require.Positive(t, left.Bytes)
			require.NoError(t, os.Remove(filepath.Join(dir, "0")))
			require.Contains(t, nospace.Why(dir, syscall.ENOSPC), want, "who got the error has cleaned up")
		}
		require.NoError(t, unix.Unmount(dir, 0))
	}
}

func TestNothingIsKnown(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	left, err := nospace.In(gone)
	require.Error(t, err)
	require.Equal(t, nospace.Left{Bytes: math.MaxInt64, Inodes: math.MaxInt64}, left)
	require.Contains(t, nospace.Why(gone, syscall.ENOSPC), "is full")
	require.Contains(t, nospace.Why(gone, fmt.Errorf("write: %w", syscall.EDQUOT)), "quota")
	require.False(t, nospace.Is(os.ErrPermission))
}
