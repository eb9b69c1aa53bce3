package procfs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc/internal/procfs"
)

// fields are those of a stat after the command.
const fields = " S 12 34 56 0 -1 4194560 0 0 0 0 3 4 5 6 20 0 7 0 8910 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 256\n"

// parsed is what they say.
var parsed = procfs.Stat{
	PID: 77, State: 'S', Parent: 12, Session: 56, Flags: 4194560, OwnTicks: 7, WaitedTicks: 11,
	Threads: 7, Start: 8910, Resident: 2, ExitCode: 256,
}

func TestParseStat(t *testing.T) {
	for _, comm := range []string{"a", "a b", ") R 1 (", "x) Z 1 2 3", ""} {
		got, err := procfs.ParseStat([]byte("77 (" + comm + ")" + fields))
		require.NoError(t, err)
		want := parsed
		want.Comm = comm
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"", "77", "77 (a)", "77 (a) S 1 2", "x (a)" + fields, "77 )a(" + fields} {
		_, err := procfs.ParseStat([]byte(bad))
		require.Error(t, err, bad)
	}
}

// Whatever a process calls itself, the fields that decide are the kernel's.
func FuzzParseStat(f *testing.F) {
	for _, comm := range []string{"a", ") Z 1 1 1 (", "\n", "a) S 1 (b", "77 (a)" + fields} {
		f.Add(comm)
	}
	f.Fuzz(func(t *testing.T, comm string) {
		got, err := procfs.ParseStat([]byte("77 (" + comm + ")" + fields))
		require.NoError(t, err)
		want := parsed
		want.Comm = comm
		require.Equal(t, want, got)
		_, _ = procfs.ParseStat([]byte(comm)) // garbage is an error or not, and no panic
	})
}

func TestZombie(t *testing.T) {
	for _, c := range []struct {
		state   byte
		threads int
		want    bool
	}{
		{'S', 1, false},
		{'R', 5, false},
		{'Z', 1, true},
		{'Z', 0, true},
		{'Z', 2, false}, // its first thread has ended, the others serve on
		{'X', 1, true},
	} {
		s := procfs.Stat{State: c.state, Threads: c.threads}
		require.Equal(t, c.want, s.Zombie(), "%c with %d threads", c.state, c.threads)
	}
}

func TestReadStat(t *testing.T) {
	self, err := procfs.ReadStat(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), self.PID)
	require.Equal(t, os.Getppid(), self.Parent)
	require.NotZero(t, self.Start)
	require.NotZero(t, self.Resident)
	require.False(t, self.Zombie())
	require.False(t, self.KernelThread())
	require.Equal(t, os.Getpid(), self.ReadableID())
	exe, err := os.Executable()
	require.NoError(t, err)
	require.Equal(t, filepath.Base(exe), self.Program())
	require.True(t, strings.HasPrefix(self.Program(), self.Comm), "%q is cut off from %q", self.Comm, self.Program())

	_, err = procfs.ReadStat(1 << 30) // no number of a process is as high
	require.True(t, procfs.Gone(err), "%v", err)
}

func TestPIDs(t *testing.T) {
	pids, err := procfs.PIDs()
	require.NoError(t, err)
	require.Contains(t, pids, os.Getpid())
}
