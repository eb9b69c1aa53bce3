//go:build linux

package space_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/store/internal/space"
)

const (
	pageSize = 4096
	ahead    = 1 << 20
)

func file(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// blocks is how many bytes the file has on the disk.
func blocks(t *testing.T, f *os.File) int64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(f.Fd()), &st))
	return st.Blocks * 512
}

func TestSpaceIsAllocatedAheadOfTheFile(t *testing.T) {
	f := file(t)
	s := space.New(f, pageSize, ahead, 0)
	require.EqualValues(t, ahead, s.Allocated())
	require.GreaterOrEqual(t, blocks(t, f), int64(ahead))
	info, err := f.Stat()
	require.NoError(t, err)
	require.Zero(t, info.Size(), "its length is bbolt's business")
	require.False(t, s.Short())

	require.True(t, s.Prepare(ahead/4, 0))
	require.EqualValues(t, ahead, s.Allocated(), "half of it is left: nothing to do")
	require.True(t, s.Prepare(ahead*3/4, 0))
	require.EqualValues(t, ahead*7/4, s.Allocated(), "topped up below the watermark")
}

func TestFitsAllocatesForALargeCommit(t *testing.T) {
	f := file(t)
	s := space.New(f, pageSize, ahead, 0)
	require.True(t, s.Fits(0, 0, space.Work{Keys: 10, Bytes: 1000}))
	require.EqualValues(t, ahead, s.Allocated(), "it finds its pages in what is there")
	large := space.Work{Keys: 1, Bytes: 8 << 20}
	require.True(t, s.Fits(0, 0, large))
	require.GreaterOrEqual(t, s.Allocated(), 2*large.Bytes, "a split page is half full")
	before := s.Allocated()
	require.True(t, s.Fits(0, 4500, large), "free pages count, but for those that must be neighbours")
	require.Equal(t, before, s.Allocated())
}

// On a file that cannot be allocated any more: the disk of one that is full. A file size
// limit of this process would end it with SIGXFSZ, so the descriptor is one for reading.
func TestFullDiskAdmitsOnlyWhatThereIs(t *testing.T) {
	f := file(t)
	require.NoError(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, ahead))
	readonly, err := os.Open(f.Name())
	require.NoError(t, err)
	defer readonly.Close()
	s := space.New(readonly, pageSize, ahead, 0)
	require.Zero(t, s.Allocated(), "nothing could be allocated, and that is no error")
	require.False(t, s.Prepare(0, 0))
	require.True(t, s.Short())
	require.False(t, s.Prepare(0, ahead/pageSize), "free pages alone do not do: they need not be neighbours")
	require.False(t, s.Fits(0, 0, space.Work{Keys: 1, Bytes: 100}))
}

func TestFreeOfAFileSystem(t *testing.T) {
	f := file(t)
	free, err := space.Free(f)
	require.NoError(t, err)
	var st unix.Statfs_t
	require.NoError(t, unix.Fstatfs(int(f.Fd()), &st))
	require.InDelta(t, float64(int64(st.Bavail)*st.Bsize), float64(free), float64(1<<30), "others write meanwhile")
	null, err := os.Open("/proc/self/status")
	require.NoError(t, err)
	defer null.Close()
	_, err = space.Free(null)
	require.Error(t, err, "a file system without a size")
}
