package models_test

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

	"rbeehive/hive/models"
	"rbeehive/test/hub"
	"rbeehive/test/skip"
)

const smallDisk = "HIVE_TEST_SMALL_DISK" // this process has mounts of its own

// A disk that is full although it did not look so: writes fail, as they do when
// somebody else is faster.
func TestWritesToAFullDisk(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	r := newRig(t)
	r.mount("size=8m,mode=755")
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

// A file system without inodes has room for bytes: the error says which of the two is
// gone, and a model can be removed to make room.
func TestNoInodesForAModel(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	r := newRig(t)
	r.mount("size=64m,mode=755,nr_inodes=64")
	model := hub.File{Path: "m.gguf", Size: mib, Seed: 2, LFS: true}
	r.hub.Add("org/here", model)
	r.hub.Add("org/more", model)
	r.opts.Free = func(string) (int64, error) { return math.MaxInt64, nil }
	r.open()
	_, err := r.download("org/here")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "x.gguf")
	require.NoError(t, os.WriteFile(file, append([]byte("GGUF\x03\x00\x00\x00"), make([]byte, mib)...), 0o600))
	for i := 0; err == nil; i++ {
		err = os.Mkdir(filepath.Join(r.dir, fmt.Sprint("none-", i)), 0o700)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)

	_, err = r.download("org/more")
	require.ErrorIs(t, err, models.ErrDiskFull)
	require.ErrorContains(t, err, "no inodes are left in the file system of "+r.dir)
	_, err = r.lib.Import(t.Context(), file, "local/x:x.gguf", true)
	require.ErrorIs(t, err, models.ErrDiskFull)
	require.ErrorContains(t, err, "no inodes are left")
	require.NoError(t, r.lib.Delete("org/here", func(models.Model) []string { return nil }))
	require.NoDirExists(t, filepath.Join(r.dir, ".deleted"))
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, "one-more"), 0o700), "it has made room")
}

// inOwnMounts runs the test again in a mount namespace of its own, and reports whether
// this is that run.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(smallDisk) != "" {
		return true
	}
	skip.UnlessRoot(t, "mounting a small file system needs root")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), smallDisk+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return false
}

// mount puts the library on a tmpfs of its own.
func (r *rig) mount(options string) {
	r.Helper()
	require.NoError(r, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(r, os.MkdirAll(r.dir, 0o700))
	require.NoError(r, unix.Mount("tmpfs", r.dir, "tmpfs", 0, options))
	r.Cleanup(func() { require.NoError(r, unix.Unmount(r.dir, 0)) })
}
