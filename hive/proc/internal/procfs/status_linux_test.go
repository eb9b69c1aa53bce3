package procfs_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc/internal/procfs"
)

func TestParseUIDs(t *testing.T) {
	got, err := procfs.ParseUIDs([]byte("Name:\tUid:\\n\nState:\tS (sleeping)\nUid:\t1\t2\t3\t4294967295\nGid:\t7\t7\t7\t7\n"))
	require.NoError(t, err)
	require.Equal(t, procfs.UIDs{Real: 1, Effective: 2, Saved: 3, FileSystem: 1<<32 - 1}, got)
	for _, bad := range []string{"", "Uid:\n", "Uid:\t1\t2\t3\n", "Uid:\t1\t2\t3\t4\t5\n", "Uid:\t1\t2\t3\t-4\n", "Uid:\t1\t2\t3\t4294967296\n", "Gid:\t1\t1\t1\t1\n"} {
		_, err := procfs.ParseUIDs([]byte(bad))
		require.Error(t, err, bad)
	}
}

func FuzzParseUIDs(f *testing.F) {
	f.Add("x", uint32(0), uint32(0), uint32(1000), uint32(0))
	f.Add("Uid:", uint32(1), uint32(2), uint32(3), uint32(4))
	f.Fuzz(func(t *testing.T, name string, r, e, s, fs uint32) {
		// %q escapes a line break, as the kernel does.
		got, err := procfs.ParseUIDs(fmt.Appendf(nil, "Name:\t%q\nUid:\t%d\t%d\t%d\t%d\n", name, r, e, s, fs))
		require.NoError(t, err)
		require.Equal(t, procfs.UIDs{Real: r, Effective: e, Saved: s, FileSystem: fs}, got)
		require.Equal(t, r == e && e == s && s == fs, got.Same())
		_, _ = procfs.ParseUIDs([]byte(name)) // garbage: no panic
	})
}

func TestReadUIDs(t *testing.T) {
	got, err := procfs.ReadUIDs(os.Getpid())
	require.NoError(t, err)
	require.EqualValues(t, os.Getuid(), got.Real)
	require.EqualValues(t, os.Geteuid(), got.Effective)
	_, err = procfs.ReadUIDs(1 << 30)
	require.True(t, procfs.Gone(err), "%v", err)
}

func TestSecure(t *testing.T) {
	vector := func(words ...uint64) (b []byte) {
		for _, w := range words {
			b = binary.NativeEndian.AppendUint64(b, w)
		}
		return b
	}
	require.False(t, procfs.Secure(vector(6, 4096, 23, 0, 0, 0)))
	require.True(t, procfs.Secure(vector(6, 4096, 23, 1, 0, 0)))
	require.True(t, procfs.Secure(vector(6, 23, 0, 0)), "23 is a value here: AT_SECURE is not in it")
	require.True(t, procfs.Secure(nil))
	require.True(t, procfs.Secure(vector(23)), "cut off")

	require.False(t, procfs.GainedRights(os.Getpid()))
	require.True(t, procfs.GainedRights(1<<30), "what cannot be read counts as gained")
}

func FuzzSecure(f *testing.F) {
	f.Add([]byte{23, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, aux []byte) {
		if !procfs.Secure(aux) {
			require.GreaterOrEqual(t, len(aux), 16, "only a vector with AT_SECURE in it says no")
		}
	})
}

func TestParseIO(t *testing.T) {
	const text = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n"
	read, written, ok := procfs.ParseIO([]byte(text))
	require.True(t, ok)
	require.EqualValues(t, 4096, read)
	require.EqualValues(t, 8192, written)
	_, _, ok = procfs.ParseIO([]byte("read_bytes: many\n"))
	require.False(t, ok)

	_, _, ok = procfs.ReadIO(os.Getpid())
	require.True(t, ok, "of itself")
	_, _, ok = procfs.ReadIO(1 << 30)
	require.False(t, ok)
}
