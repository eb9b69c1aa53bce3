package hive_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/doctor"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// Without inodes there is room for the state file and none for a worker's log. The error
// says so, and a start goes on once there are some again.
func TestNoInodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	disk := filepath.Join(r.cfg.DataDir, "disk")
	require.NoError(t, os.Mkdir(disk, 0o700))
	err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "nr_inodes=64")
	if errors.Is(err, syscall.EPERM) {
		skip.Because(t, "mounting a file system with few inodes needs root")
	}
	require.NoError(t, err)
	outer := r.cfg.DataDir
	t.Cleanup(func() { r.eventually("the disk is nobody's", func() bool { return syscall.Unmount(disk, 0) == nil }) })
	r.cfg.DataDir = disk
	r.open()
	var names []string
	for err == nil {
		name := filepath.Join(disk, fmt.Sprint("file-", len(names)))
		if err = os.WriteFile(name, nil, 0o600); err == nil {
			names = append(names, name)
		}
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	raw := []byte(`{"operation":"worker_spawn","worker":"cpu"}`)
	op, err := r.h.Decode(raw)
	require.NoError(t, err)
	job, err := r.h.Submit(t.Context(), op, raw)
	require.NoError(t, err, "the state file has room")
	rec, err := r.h.WaitJob(t.Context(), job.JobID)
	require.NoError(t, err)
	require.Equal(t, "disk_full", rec.Error.Code, "%s", rec.Error.Message)
	require.Contains(t, rec.Error.Message, "no inodes are left in the file system of "+filepath.Join(disk, "logs"))
	checks, err := r.h.Doctor(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(checks, func(c doctor.Checkup) bool { return c.Name == "disk" })
	require.Equal(t, doctor.Warning, checks[i].Status)
	require.Contains(t, checks[i].Found, "0 inodes are left")
	_, err = r.h.Backup(t.Context(), io.Discard)
	require.ErrorIs(t, err, store.ErrDiskFull)
	require.ErrorContains(t, err, "no inodes are left")

	for _, name := range names {
		require.NoError(t, os.Remove(name))
	}
	r.spawn("cpu")
	require.NoError(t, r.h.StopWorkers(t.Context()))
	r.close()
	r.cfg.DataDir = outer
}
