package hive_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/hive"
)

// logDir is a directory of logs with one log, without a hive.
type logDir struct {
	testing.TB
	*hive.Logs
	path string
	file *os.File // as a worker has it: for appending
	next int      // the number of the next line
}

const leastLog = hive.LeastLogSize

func newLogDir(t testing.TB, dir string, keep int) *logDir {
	d := &logDir{TB: t, path: filepath.Join(dir, "w.log")}
	d.again(keep)
	var err error
	d.file, err = os.OpenFile(d.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { d.file.Close() })
	return d
}

// again is what a hive that has been started anew knows: nothing.
func (d *logDir) again(keep int) {
	out := logrus.New()
	out.SetOutput(io.Discard)
	d.Logs = hive.NewLogs(hive.LogsConfig{MaxSize: leastLog, Keep: keep, MaxTotal: 1 << 30}, filepath.Dir(d.path), out)
}

// modes runs a test on the file system as it is, and as one that cannot take
// blocks out of a file.
func modes(t *testing.T, test func(t *testing.T, d *logDir)) {
	t.Run("as it is", func(t *testing.T) {
		d := newLogDir(t, t.TempDir(), 3)
		t.Logf("blocks can be taken out of the head of a file: %v", d.Collapses())
		test(t, d)
	})
	t.Run("copied and cut", func(t *testing.T) {
		d := newLogDir(t, t.TempDir(), 3)
		d.Copy()
		test(t, d)
	})
}

// numbered is a line of 64 bytes.
func numbered(n int) string { return fmt.Sprintf("line %09d %s\n", n, strings.Repeat(".", 48)) }

// write appends about size bytes of lines.
func (d *logDir) write(size int) {
	d.Helper()
	var b strings.Builder
	for ; size > 0; size -= 64 {
		b.WriteString(numbered(d.next))
		d.next++
	}
	_, err := d.file.WriteString(b.String())
	require.NoError(d, err)
}

func (d *logDir) rotate() {
	d.Helper()
	require.NoError(d, d.Rotate(d.Context(), "w"))
}

// read returns the sequence of the last lines.
func (d *logDir) read(lines int) string {
	d.Helper()
	return sequence(d.numbers(lines))
}

func (d *logDir) numbers(lines int) []int {
	d.Helper()
	r, err := d.Open(d.Context(), "w", lines)
	require.NoError(d, err)
	defer r.Close()
	return numbersIn(d, r)
}

func numbersIn(t testing.TB, r io.Reader) (numbers []int) {
	t.Helper()
	raw, err := io.ReadAll(r)
	require.NoError(t, err)
	return numbersOf(t, string(raw))
}

func numbersOf(t testing.TB, text string) (numbers []int) {
	t.Helper()
	numbers = []int{}
	for line := range strings.Lines(text) {
		if n, ok := numberOf(t, line); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// numberOf returns the number of a line, unless it is one of hive's own.
func numberOf(t testing.TB, line string) (n int, ok bool) {
	t.Helper()
	if strings.HasPrefix(line, "--- hive: ") {
		return 0, false
	}
	n, err := strconv.Atoi(line[min(5, len(line)):min(14, len(line))])
	if err != nil || line != numbered(n) {
		require.Fail(t, "a line is torn", "%q", line)
	}
	return n, true
}

// sequence writes numbers as "0-99 120-130", so that a difference can be read.
func sequence(numbers []int) string {
	var b strings.Builder
	for i := 0; i < len(numbers); {
		first := numbers[i]
		for i++; i < len(numbers) && numbers[i] == numbers[i-1]+1; i++ {
		}
		fmt.Fprintf(&b, "%d-%d ", first, numbers[i-1])
	}
	return b.String()
}

// upTo is the sequence from first on, without end.
func upTo(first, end int) string {
	if first >= end {
		return ""
	}
	return fmt.Sprintf("%d-%d ", first, end-1)
}

func (d *logDir) size(suffix string) int64 {
	d.Helper()
	fi, err := os.Lstat(d.path + suffix)
	if errors.Is(err, os.ErrNotExist) {
		return -1
	}
	require.NoError(d, err)
	return fi.Size()
}

func TestRotation(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		before, err := os.Stat(d.path)
		require.NoError(t, err)
		d.write(leastLog)
		d.rotate()
		require.EqualValues(t, leastLog, d.size(""), "it is as large as it may be")
		require.EqualValues(t, -1, d.size(".1"))
		for round := range 9 {
			d.write(leastLog)
			d.rotate()
			require.LessOrEqual(t, d.size(""), int64(leastLog))
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
		d.write(2 * leastLog)
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
		d.write(20 * leastLog)
		d.rotate()
		numbers := d.numbers(-1)
		require.Equal(t, upTo(numbers[0], d.next), sequence(numbers))
		least := leastLog / 64
		require.GreaterOrEqual(t, len(numbers), 2*least)
		require.LessOrEqual(t, len(numbers), 4*least)
	})
}

// A hive is killed while it rotates: at any moment nothing is missing, and
// nothing is there twice after the next start.
func TestAHiveIsKilledWhileItRotates(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		d.write(leastLog * 3 / 2)
		d.rotate()
		d.write(leastLog * 3 / 2)
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
		d.write(leastLog)
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
		content := bytes.Repeat([]byte("secret\n"), leastLog)
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
		d.write(leastLog * 3 / 2)
		require.Equal(t, upTo(0, d.next), d.read(-1), "a link is not a rotated file")
		d.rotate()
		require.Equal(t, upTo(0, d.next), d.read(-1))
		unchanged()
		require.NoError(t, os.Symlink(secret, d.path+".new"))
		d.write(leastLog)
		d.rotate()
		require.Equal(t, upTo(0, d.next), d.read(-1))
		unchanged()

		require.NoError(t, os.Rename(d.path, d.path+".moved"))
		require.NoError(t, os.Symlink(secret, d.path))
		require.ErrorContains(t, d.Rotate(t.Context(), "w"), "not a regular file")
		_, err := d.Open(d.Context(), "w", 1)
		require.ErrorContains(t, err, "not a regular file")
		require.Empty(t, d.LastLines(d.Context(), "w", 1))
		unchanged()

		require.NoError(t, os.Remove(d.path))
		require.NoError(t, os.Link(secret, d.path))
		require.ErrorContains(t, d.Rotate(t.Context(), "w"), "is not the file that it was")
		unchanged()

		require.NoError(t, os.Remove(d.path))
		require.NoError(t, syscall.Mkfifo(d.path, 0o600))
		require.ErrorContains(t, d.Rotate(t.Context(), "w"), "not a regular file")
		_, err = d.Open(d.Context(), "w", 1)
		require.ErrorContains(t, err, "not a regular file")
		require.NoError(t, os.Remove(d.path))
		_, err = d.Open(d.Context(), "w", 1)
		require.ErrorIs(t, err, hive.ErrNotFound)
	})
}

// A worker that opened /dev/stdout anew without O_APPEND goes on at its old place
// after a rotation. The hole before it must not be taken for output, again and
// again, until nothing else is kept.
func TestAWorkerThatDoesNotAppend(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		d.write(4 * leastLog)
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
		_, err = anew.WriteAt(bytes.Repeat([]byte("x\n"), leastLog), offset)
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
		id, n, ok := hive.ParseLogName(name)
		require.Equal(t, want != "", ok, name)
		if ok {
			require.Equal(t, want, fmt.Sprint(id, " ", n))
		}
	}
}
