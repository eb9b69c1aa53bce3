package proc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/test/skip"
)

// The stdout of somebody else's process may be anything, and opening it anything but
// harmless: a fifo would block.
func TestOnlyAFileIsOpenedAsAnOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	output := func(f *os.File) int {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sleep", "60")
		cmd.Stdout = f
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	open := func(path string, flag int) *os.File {
		t.Helper()
		f, err := os.OpenFile(path, flag, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}

	log := open(filepath.Join(dir, "log"), os.O_RDWR|os.O_CREATE)
	_, err := log.WriteString("hello")
	require.NoError(t, err)
	f, err := proc.OpenOutput(output(log))
	require.NoError(t, err)
	defer f.Close()
	text := make([]byte, 9)
	n, _ := f.ReadAt(text, 0)
	require.Equal(t, "hello", string(text[:n]))

	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	begun := time.Now()
	for _, other := range []*os.File{open(fifo, os.O_RDWR|unix.O_NONBLOCK), open("/dev/full", os.O_WRONLY), open(dir, os.O_RDONLY)} {
		_, err := proc.OpenOutput(output(other))
		require.ErrorContains(t, err, "not a regular file", other.Name())
	}
	require.Less(t, time.Since(begun), 10*time.Second)
	_, err = proc.OpenOutput(1 << 22)
	require.Error(t, err)
}

// Whoever owns a log can have a lease on it, which the next start must not wait for.
func TestStartDoesNotWaitForALease(t *testing.T) {
	t.Parallel()
	spec := newSpec(t, "sleep")
	f, err := os.OpenFile(spec.Log, os.O_WRONLY|os.O_CREATE, 0o600)
	require.NoError(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		skip.Because(t, "the file system knows no leases: "+err.Error())
	}
	begun := time.Now()
	_, err = proc.Start(spec)
	require.ErrorContains(t, err, "has a lease on it")
	require.Less(t, time.Since(begun), 5*time.Second, "a lease is broken after 45 s")
}
