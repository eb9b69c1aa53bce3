package logs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/logs"
	"rbeehive/test/skip"
)

// logDir is a directory of logs with one log, without a hive.
type logDir struct {
	testing.TB
	*logs.Dir
	cfg  logs.Config
	path string
	file *os.File // as a worker has it: for appending
	next int      // the number of the next line
}

const minSize = logs.MinSize

func newLogDir(t testing.TB, dir string, keep int) *logDir {
	d := &logDir{TB: t, cfg: logs.Config{MaxSize: minSize}, path: filepath.Join(dir, "w.log")}
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
	d.cfg.Keep = keep
	d.Dir = logs.New(d.cfg, filepath.Dir(d.path), out)
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

// disks runs a test on the file system of the tests and on a tmpfs, which finds holes
// in another way.
func disks(t *testing.T, test func(t *testing.T, dir string)) {
	name, _, _ := strings.Cut(t.Name(), "/")
	if os.Getenv(smallDisk) != "" {
		test(t, mountSmall(t, "tmpfs"))
		return
	}
	t.Run("as it is", func(t *testing.T) { test(t, t.TempDir()) })
	t.Run("tmpfs", func(t *testing.T) {
		if os.Geteuid() != 0 {
			skip.Because(t, "mounting a file system needs root")
		}
		self, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.CommandContext(t.Context(), self, "-test.run", "^"+name+"$")
		cmd.Env = append(os.Environ(), smallDisk+"=tmpfs")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // the mount goes with the child
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
}

// smallDisk is set for the test as a child that has mounts of its own.
const smallDisk = "HIVE_TEST_SMALL_DISK"

func mountSmall(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "disk")
	require.NoError(t, os.Mkdir(at, 0o700))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(at, unix.MNT_DETACH)) })
	if kind == "tmpfs" {
		require.NoError(t, unix.Mount(kind, at, kind, 0, "size=32m"))
		return at
	}
	image := filepath.Join(dir, "image")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 48<<20))
	for _, argv := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, at}} {
		out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return at
}

// soon is a context for what must not take long, whatever the log is like.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
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
	require.NoError(d, d.RotateLog(d.Context(), "w"))
}

// read returns the sequence of the last lines.
func (d *logDir) read(lines int) string {
	d.Helper()
	return sequence(d.numbers(lines))
}

func (d *logDir) numbers(lines int) []int {
	d.Helper()
	r, err := d.Open(d.Context(), "w", d.path, lines)
	require.NoError(d, err)
	defer r.Close()
	return numbersIn(d, r)
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

// restOf is what a log reader yields until the end.
func restOf(t testing.TB, r *logs.Reader) string {
	t.Helper()
	var b strings.Builder
	for block, err := range r.Rest(t.Context()) {
		require.NoError(t, err)
		b.Write(block)
	}
	return b.String()
}
