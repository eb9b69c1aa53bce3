package logs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/logs"
)

func TestRotation(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		before, err := os.Stat(d.path)
		require.NoError(t, err)
		d.write(minSize)
		d.rotate()
		require.EqualValues(t, minSize, d.size(""), "it is as large as it may be")
		require.EqualValues(t, -1, d.size(".1"))
		for round := range 9 {
			d.write(minSize)
			d.rotate()
			require.LessOrEqual(t, d.size(""), int64(minSize))
			require.Equal(t, upTo(d.numbers(-1)[0], d.next), d.read(-1), "round %d: nothing is missing in between", round)
		}
		after, err := os.Stat(d.path)
		require.NoError(t, err)
		require.True(t, os.SameFile(before, after), "a proof of membership: the worker's stdout is this file")
		require.Positive(t, d.size(".3"))
		require.EqualValues(t, -1, d.size(".4"))
		require.EqualValues(t, -1, d.size(".new"))
		require.Positive(t, d.numbers(-1)[0], "the oldest are gone")
		mode, err := os.Stat(d.path + ".1")
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), mode.Mode())

		// Fewer are to be kept, and what is there is found again.
		all := d.read(-1)
		d.again(1)
		require.Equal(t, all, d.read(-1))
		d.write(2 * minSize)
		d.rotate()
		require.EqualValues(t, -1, d.size(".2"))
		require.EqualValues(t, -1, d.size(".3"))
	})
}

// A log that grew for days while no hive was there: what is kept is the newest,
// and takes no more room than if it had been rotated all the time.
func TestRotationOfALogThatIsMuchTooLarge(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		d.write(20 * minSize)
		d.rotate()
		numbers := d.numbers(-1)
		require.Equal(t, upTo(numbers[0], d.next), sequence(numbers))
		least := minSize / 64
		require.GreaterOrEqual(t, len(numbers), 2*least)
		require.LessOrEqual(t, len(numbers), 4*least)
	})
}

// A hive is killed while it rotates: at any moment nothing is missing, and
// nothing is there twice after the next start.
func TestAHiveIsKilledWhileItRotates(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		d.write(minSize * 3 / 2)
		d.rotate()
		d.write(minSize * 3 / 2)
		log, err := os.ReadFile(d.path)
		require.NoError(t, err)

		// It was copying.
		require.NoError(t, os.WriteFile(d.path+".new", log[:100], 0o600))
		d.again(3)
		require.Equal(t, upTo(0, d.next), d.read(-1))
		require.EqualValues(t, -1, d.size(".new"))

		// It had copied and was about to take it out of the log.
		require.NoError(t, os.Rename(d.path+".1", d.path+".2"))
		require.NoError(t, os.WriteFile(d.path+".1", log[:len(log)/4096*4096], 0o600))
		d.again(3)
		require.Equal(t, upTo(0, d.next), d.read(-1))
		require.EqualValues(t, -1, d.size(".1"))
		d.write(minSize)
		d.rotate()
		require.Equal(t, upTo(0, d.next), d.read(-1), "a number that is left out does no harm")
	})
}

// What lies where a log or a rotated file should be may be anything: hive must
// not write there, and show nothing of it.
func TestLogsAreNeverFollowedElsewhere(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		secret := filepath.Join(t.TempDir(), "secret")
		content := bytes.Repeat([]byte("secret\n"), minSize)
		require.NoError(t, os.WriteFile(secret, content, 0o600))
		unchanged := func() {
			t.Helper()
			now, err := os.ReadFile(secret)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, now))
		}

		for _, suffix := range []string{".new", ".1", ".2"} {
			require.NoError(t, os.Symlink(secret, d.path+suffix))
		}
		d.write(minSize * 3 / 2)
		require.Equal(t, upTo(0, d.next), d.read(-1), "a link is not a rotated file")
		d.rotate()
		require.Equal(t, upTo(0, d.next), d.read(-1))
		unchanged()
		require.NoError(t, os.Symlink(secret, d.path+".new"))
		d.write(minSize)
		d.rotate()
		require.Equal(t, upTo(0, d.next), d.read(-1))
		unchanged()

		require.NoError(t, os.Rename(d.path, d.path+".moved"))
		require.NoError(t, os.Symlink(secret, d.path))
		require.ErrorContains(t, d.RotateLog(t.Context(), "w"), "not a regular file")
		_, err := d.Open(d.Context(), "w", d.path, 1)
		require.ErrorContains(t, err, "not a regular file")
		require.Empty(t, d.LastLines(d.Context(), "w", d.path, logs.Started, 1))
		unchanged()

		require.NoError(t, os.Remove(d.path))
		require.NoError(t, os.Link(secret, d.path))
		require.ErrorContains(t, d.RotateLog(t.Context(), "w"), "is not the file that it was")
		unchanged()

		require.NoError(t, os.Remove(d.path))
		require.NoError(t, syscall.Mkfifo(d.path, 0o600))
		require.ErrorContains(t, d.RotateLog(t.Context(), "w"), "not a regular file")
		_, err = d.Open(d.Context(), "w", d.path, 1)
		require.ErrorContains(t, err, "not a regular file")
		require.NoError(t, os.Remove(d.path))
		_, err = d.Open(d.Context(), "w", d.path, 1)
		require.ErrorIs(t, err, logs.ErrGone)
	})
}

// A worker that opened /dev/stdout anew without O_APPEND goes on at its old place
// after a rotation. The hole before it must not be taken for output, again and
// again, until nothing else is kept.
func TestAWorkerThatDoesNotAppend(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		d.write(4 * minSize)
		offset := d.size("")
		d.rotate()
		size := d.size(".1")
		anew, err := os.OpenFile(d.path, os.O_WRONLY, 0)
		require.NoError(t, err)
		defer anew.Close()
		for range 5 {
			_, err = anew.WriteAt([]byte("x\n"), offset)
			require.NoError(t, err)
			offset += 2
			d.rotate()
		}
		require.Equal(t, size, d.size(".1"), "two bytes at a time are no reason to rotate")
		_, err = anew.WriteAt(bytes.Repeat([]byte("x\n"), minSize), offset)
		require.NoError(t, err)
		d.rotate()
		require.Less(t, d.size(""), offset)
	})
}

func TestLogNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"cpu-1-abcdef.log": "cpu-1-abcdef 0", "a.b.log.7-1-abcdef.log": "a.b.log.7-1-abcdef 0",
		"cpu-1-abcdef.log.12": "cpu-1-abcdef 12", "cpu-1-abcdef.log.new": "cpu-1-abcdef -1",
		".log": "", "x": "", "x.log.0": "", "x.log.-1": "", "x.log.1.gz": "", "notes.txt": "", "x.1": "", ".log.1": "", "": "",
	} {
		id, n, ok := logs.ParseName(name)
		require.Equal(t, want != "", ok, name)
		if ok {
			require.Equal(t, want, fmt.Sprint(id, " ", n))
		}
	}
}
