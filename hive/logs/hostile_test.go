package logs_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/logs"
	"rbeehive/test/skip"
)

// huge is the size of a log that its worker has made one large hole.
const huge = 8 << 40

// grow makes the log a file of so many bytes, which takes no room.
func (d *logDir) grow(t *testing.T, size int64) {
	t.Helper()
	err := d.file.Truncate(size)
	if errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EINVAL) {
		skip.Because(t, "the file system takes no file of "+time.Duration(size).String())
	}
	require.NoError(t, err)
}

// room is what the log and all that was moved out of it take on the disk.
func (d *logDir) room() (bytes int64) {
	d.Helper()
	for _, suffix := range []string{"", ".1", ".2", ".3", ".4", ".new"} {
		fi, err := os.Lstat(d.path + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(d, err)
		bytes += fi.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return bytes
}

// tail is the last lines as somebody gets them who asks for them.
func (d *logDir) tail(t testing.TB, lines int) string {
	t.Helper()
	r, err := d.Open(soon(t), "w", d.path, lines)
	require.NoError(t, err)
	defer r.Close()
	return restOf(t, r)
}

// A worker of another user owns its log, and can make it 8 TiB for nothing: what was
// written is found at once, before and behind the hole, and no zeros are sent.
func TestALogThatIsOneLargeHole(t *testing.T) {
	t.Parallel()
	disks(t, func(t *testing.T, dir string) {
		d := newLogDir(t, dir, 3)
		d.grow(t, huge)
		require.Empty(t, d.tail(t, 1), "nothing but a hole")
		require.Empty(t, d.tail(t, -1))
		require.Empty(t, d.LastLines(soon(t), "w", d.path, logs.Started, 5))

		require.NoError(t, d.file.Truncate(0))
		d.write(4 << 10)
		d.grow(t, huge)
		require.Equal(t, numbered(d.next-1), d.tail(t, 1), "the hole is at the end")
		require.Equal(t, upTo(0, d.next), sequence(numbersOf(t, d.tail(t, -1))))
		require.Equal(t, upTo(0, d.next), sequence(numbersOf(t, d.tail(t, 1000))))
		require.Equal(t, []string{strings.TrimSpace(numbered(d.next - 1))}, d.LastLines(soon(t), "w", d.path, logs.Started, 1))

		before := d.next
		d.write(4 << 10) // appended, behind the hole
		require.Equal(t, numbered(d.next-1), d.tail(t, 1))
		require.Equal(t, upTo(before-3, d.next), sequence(numbersOf(t, d.tail(t, d.next-before+3))), "over the hole")
		require.Equal(t, upTo(0, d.next), sequence(numbersOf(t, d.tail(t, -1))))
		require.Equal(t, upTo(0, d.next), sequence(numbersOf(t, d.tail(t, 1000))))
		require.GreaterOrEqual(t, len(d.LastLines(soon(t), "w", d.path, logs.Started, 100)), d.next-before)
	})
}

// Rotation neither copies a hole nor counts it.
func TestRotationOfALogThatIsOneLargeHole(t *testing.T) {
	t.Parallel()
	disks(t, func(t *testing.T, dir string) {
		for name, prepare := range map[string]func(*logDir){"as it is": func(*logDir) {}, "copied and cut": func(d *logDir) { d.Copy() }} {
			d := newLogDir(t, t.TempDir(), 3)
			if os.Getenv(smallDisk) != "" {
				d = newLogDir(t, dir, 3)
			}
			prepare(d)
			d.write(minSize / 2)
			d.grow(t, huge)
			require.NoError(t, d.RotateLog(soon(t), "w"))
			require.EqualValues(t, huge, d.size(""), "%s: it is not too large", name)
			require.EqualValues(t, -1, d.size(".1"))

			d.write(minSize) // too large now, with a hole in the middle
			require.NoError(t, d.RotateLog(soon(t), "w"))
			require.Less(t, d.size(""), int64(huge), name)
			require.LessOrEqual(t, d.room(), int64(4*minSize), name)
			require.Contains(t, d.tail(t, 2), numbered(d.next-1), name) // hive's own line may be the last

			d.write(3 * minSize) // with a hole at the end
			d.grow(t, huge)
			for range 3 {
				require.NoError(t, d.RotateLog(soon(t), "w"))
				d.write(minSize * 3 / 2)
			}
			require.NoError(t, d.RotateLog(soon(t), "w"))
			require.LessOrEqual(t, d.room(), int64(8*minSize), name)
			require.Contains(t, d.tail(t, 2), numbered(d.next-1), name)
			for _, suffix := range []string{"", ".1", ".2", ".3"} {
				require.NoError(t, errors.Join(os.RemoveAll(d.path+suffix)))
			}
		}
	})
}

// Room that a worker sets aside is not what it has written, and is given back.
func TestRotationOfALogWithRoomSetAside(t *testing.T) {
	t.Parallel()
	for mode, how := range map[string]uint32{"as its size": 0, "beyond its end": unix.FALLOC_FL_KEEP_SIZE} {
		t.Run(mode, func(t *testing.T) {
			modes(t, func(t *testing.T, d *logDir) {
				d.write(minSize / 2)
				if err := unix.Fallocate(int(d.file.Fd()), how, 0, 64<<20); errors.Is(err, unix.EOPNOTSUPP) {
					skip.Because(t, "the file system sets no room aside")
				} else {
					require.NoError(t, err)
				}
				require.Greater(t, d.room(), int64(60<<20))
				require.NoError(t, d.RotateLog(soon(t), "w"))
				require.LessOrEqual(t, d.room(), int64(4*minSize))
				d.write(minSize / 4)
				require.Equal(t, numbered(d.next-1), d.tail(t, 1))
				if how != 0 {
					require.Equal(t, upTo(0, d.next), d.read(-1), "nothing was lost")
				}
			})
		})
	}
}

// While its log is rotated a worker makes it huge and small again, as fast as it can.
func TestRotationOfALogThatIsStretchedMeanwhile(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		ctx, stop := context.WithCancel(soon(t))
		var worker sync.WaitGroup
		worker.Go(func() {
			for n := int64(0); ctx.Err() == nil; n++ {
				_ = d.file.Truncate([]int64{huge, 2 * minSize, 0, huge / 2}[n%4])
				_, _ = d.file.WriteString(strings.Repeat(numbered(0), 256))
			}
		})
		for range 100 {
			if err := d.RotateLog(ctx, "w"); err != nil {
				require.NotErrorIs(t, err, context.DeadlineExceeded)
			}
			require.LessOrEqual(t, d.room(), int64(100*minSize))
			r, err := d.Open(ctx, "w", d.path, 3)
			require.NoError(t, err)
			for _, err := range r.Rest(ctx) {
				require.NoError(t, err)
			}
			r.Close()
		}
		stop()
		worker.Wait()
	})
}

// A log of many small holes, and a line of any length, end the search for lines.
func TestTheSearchForLinesHasAnEnd(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	for at := range int64(5000) {
		_, err := unix.Pwrite(int(reopened(t, d).Fd()), []byte("x"), at<<20)
		require.NoError(t, err)
	}
	require.NotEmpty(t, d.tail(t, 10))
	require.NotEmpty(t, d.LastLines(soon(t), "w", d.path, logs.Started, 3))

	require.NoError(t, d.file.Truncate(0))
	_, err := d.file.WriteString(strings.Repeat("x", 100*minSize))
	require.NoError(t, err)
	for _, lines := range []int{1, 1000, -1} {
		require.Len(t, d.tail(t, lines), 8*minSize, "%d lines: what rotation leaves, and the newest of it", lines)
	}
	line := d.LastLines(soon(t), "w", d.path, logs.Started, 20)
	require.Len(t, line, 1)
	require.LessOrEqual(t, len(line[0]), 16<<10)
}

// reopened is the log opened without O_APPEND, as a worker can by /dev/stdout.
func reopened(t *testing.T, d *logDir) *os.File {
	t.Helper()
	f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// Who has gone is not read for any more.
func TestReadingALogEndsWithItsContext(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	d.write(4 * minSize)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.Open(gone, "w", d.path, 1000)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, d.LastLines(gone, "w", d.path, logs.Started, 3))

	r, err := d.Open(t.Context(), "w", d.path, -1)
	require.NoError(t, err)
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	blocks := 0
	for block, err := range r.Rest(ctx) {
		if blocks++; blocks == 2 {
			require.ErrorIs(t, err, context.Canceled)
			continue
		}
		require.NoError(t, err)
		require.NotEmpty(t, block)
		cancel()
	}
	require.Equal(t, 2, blocks)
	require.NotEmpty(t, restOf(t, r), "it can go on from there")
}

// A worker that is always ahead does not make an answer endless.
func TestReadingALogThatGoesOn(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	d.write(minSize)
	r, err := d.Open(t.Context(), "w", d.path, -1)
	require.NoError(t, err)
	defer r.Close()
	size, grown := 0, 0
	for block, err := range r.Rest(soon(t)) {
		require.NoError(t, err)
		size += len(block)
		d.write(minSize)
		grown += minSize
	}
	require.Equal(t, minSize, size)
	require.Len(t, restOf(t, r), grown, "the rest is for the next time")

	d.write(minSize)
	rounds := 0
	for _, err := range r.Rest(soon(t)) {
		require.NoError(t, err)
		rounds++
		require.NoError(t, d.file.Truncate(0))
		d.write(640)
	}
	require.Equal(t, 1, rounds, "what comes after a cut is for the next time too")
	require.Len(t, restOf(t, r), 640)
}

// The owner of a file can have a lease on it, which who opens it would wait for.
func TestALogWithALease(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	d.write(minSize * 3 / 2)
	if _, err := unix.FcntlInt(d.file.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		skip.Because(t, "the file system knows no leases: "+err.Error())
	}
	begun := time.Now()
	_, err := d.Open(t.Context(), "w", d.path, 1)
	require.ErrorContains(t, err, "has a lease on it")
	require.ErrorContains(t, d.RotateLog(t.Context(), "w"), "has a lease on it")
	require.Empty(t, d.LastLines(t.Context(), "w", d.path, logs.Started, 1))
	require.Less(t, time.Since(begun), 5*time.Second, "a lease is broken after 45 s")
	_, err = unix.FcntlInt(d.file.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	require.NoError(t, err)
	d.rotate()
}

// A log of which the file system does not take the head, as its owner can have it, is
// copied and cut; others are not.
func TestOneLogDoesNotDecideForOthers(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	if !d.Collapses() {
		skip.Because(t, "the file system does not take blocks out of the head of a file")
	}
	flags, err := unix.IoctlGetUint32(int(d.file.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(d.file.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^fsExtents)) // chattr -e
	}
	if err != nil || flags&fsExtents == 0 {
		skip.Because(t, "the file system has no files without extents")
	}
	d.write(3 * minSize)
	require.Error(t, d.RotateLog(t.Context(), "w"), "it is tried")
	d.rotate()
	require.LessOrEqual(t, d.size(""), int64(minSize))
	require.Contains(t, d.tail(t, 2), numbered(d.next-1)) // hive's own line is the last

	other := &logDir{TB: t, Dir: d.Dir, path: strings.Replace(d.path, "w.log", "v.log", 1)}
	other.file, err = os.Create(other.path)
	require.NoError(t, err)
	defer other.file.Close()
	other.write(3 * minSize)
	require.NoError(t, other.RotateLog(t.Context(), "v"))
	require.FileExists(t, other.path+".2", "it was not copied and cut, which makes one")
}

// fsExtents is FS_EXTENT_FL (ioctl_iflags(2)).
const fsExtents = 0x80000
