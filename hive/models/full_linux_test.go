package models_test

import (
	"math"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/models"
	"rbeehive/test/hub"
	"rbeehive/test/skip"
)

const smallDisk = "HIVE_TEST_SMALL_DISK" // this process has mounts of its own

// A disk that is full although it did not look so: writes fail, as they do when
// somebody else is faster.
func TestWritesToAFullDisk(t *testing.T) {
	if os.Getenv(smallDisk) == "" {
		skip.UnlessRoot(t, "mounting a small file system needs root")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWritesToAFullDisk$")
		cmd.Env = append(os.Environ(), smallDisk+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	r := newRig(t)
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(t, os.MkdirAll(r.dir, 0o700))
	require.NoError(t, unix.Mount("tmpfs", r.dir, "tmpfs", 0, "size=8m,mode=755"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(r.dir, 0)) })
	r.hub.Add("org/large", hub.File{Path: "m.gguf", Size: 16 * mib, Seed: 1, LFS: true})
	small := hub.File{Path: "m.gguf", Size: 6 * mib, Seed: 2, LFS: true}
	r.hub.Add("org/small", small)

	_, err := r.download("org/small")
	require.ErrorIs(t, err, models.ErrDiskFull, "64 MiB are to stay free")
	require.Zero(t, r.hub.Sent())
	r.opts.Free = func(string) (int64, error) { return math.MaxInt64, nil }
	r.open()
	_, err = r.download("org/large")
	require.ErrorIs(t, err, models.ErrDiskFull)
	require.ErrorIs(t, err, syscall.ENOSPC)
	r.requireNoModel()
	require.Empty(t, r.entries(), "it does not keep the disk full")
	m, err := r.download("org/small")
	require.NoError(t, err)
	require.Equal(t, r.hub.SHA256(small), sumOf(t, m.Path))
}
