package hive_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// writer is a worker that prints numbered lines, each with one write, and then
// does nothing. After so many lines it rests for a millisecond; 0: it never does.
func writer(lines, restAfter int) catalog.Entry {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return catalog.Entry{
		Name: "writer", Command: []string{self, "writer", strconv.Itoa(lines), strconv.Itoa(restAfter)},
		Stop: catalog.StopEntry{Signal: []string{"SIGKILL"}},
	}
}

func writerMain(args []string) int {
	lines, errLines := strconv.Atoi(args[0])
	restAfter, errRest := strconv.Atoi(args[1])
	if err := errors.Join(errLines, errRest); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	for n := range lines {
		if restAfter > 0 && n%restAfter == 0 {
			<-time.After(time.Millisecond)
		}
		if _, err := os.Stdout.WriteString(numbered(n)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	select {} // until it is killed
}

// collapses reports whether the file system can take blocks out of the head of a
// file, by trying it.
func collapses(t *testing.T, dir string) bool {
	t.Helper()
	f, err := os.CreateTemp(dir, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(f.Close(), os.Remove(f.Name()))) }()
	require.NoError(t, f.Truncate(1<<20))
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 64<<10) == nil
}

// A worker writes as fast as it can while its log is rotated and hive is
// restarted. Somebody follows it all the time, over the restart from its first line.
func TestTheLogOfALivingWorkerIsRotated(t *testing.T) {
	t.Parallel()
	const lines = 300_000
	for mode, restAfter := range map[string]int{"as it is": 0, "copied and cut": 200} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, writer(lines, restAfter))
			r.cfg.Logs = hive.LogsConfig{MaxSize: 2 << 20, Keep: 100}
			whole := mode == "as it is" && collapses(t, r.cfg.DataDir)
			open := func() {
				r.open()
				if mode != "as it is" {
					r.h.CopyLogs()
				}
			}
			open()
			w := r.spawn("writer", map[string]any{"wait": "started"})
			log := filepath.Join(r.cfg.DataDir, "logs", w.WorkerID+".log")
			r.followLog(w.WorkerID, whole, func(n int) bool { return n < lines/3 })
			r.close()
			open()
			numbers := r.followLog(w.WorkerID, whole, func(n int) bool { return n < lines-1 })
			rec, err := r.h.Worker(w.WorkerID)
			require.NoError(t, err)
			require.Equal(t, store.WorkerRunning, rec.State, "it was adopted")

			fd, err := os.Stat(fmt.Sprintf("/proc/%d/fd/1", w.PID))
			require.NoError(t, err)
			now, err := os.Lstat(log)
			require.NoError(t, err)
			require.True(t, os.SameFile(fd, now), "the proof of membership is as it was")
			require.LessOrEqual(t, now.Size(), r.cfg.Logs.MaxSize)
			require.FileExists(t, log+".1")
			t.Logf("%d of %d lines, without any loss: %v", len(numbers), lines, whole)
			if whole {
				require.Equal(t, upTo(0, lines), sequence(numbers))
			} else {
				require.True(t, slices.IsSorted(numbers) && len(slices.Compact(numbers)) == len(numbers), "in order and none twice")
				require.NotEmpty(t, numbers) // how many are lost depends on how soon hive gets to look
			}
			all, err := r.h.OpenLog(r.Context(), w.WorkerID, -1)
			require.NoError(t, err)
			defer all.Close()
			kept := numbersIn(t, all)
			if whole {
				require.Equal(t, upTo(0, lines), sequence(kept))
			}
			require.Equal(t, lines-1, kept[len(kept)-1])
			seen := map[int]bool{}
			for _, n := range numbers {
				seen[n] = true
			}
			require.False(t, slices.ContainsFunc(kept, func(n int) bool { return !seen[n] }), "who followed it has seen all that is kept")
		})
	}
}

// followLog rotates the log and reads it until a number is the last. Where the log
// is copied and cut, hive may come too late for all of it, and a line is torn.
func (r *rig) followLog(id string, whole bool, goOn func(number int) bool) (numbers []int) {
	r.Helper()
	log, err := r.h.OpenLog(r.Context(), id, -1)
	require.NoError(r, err)
	defer log.Close()
	lines := bufio.NewReaderSize(endless{r, log}, 1<<16)
	for {
		line, err := lines.ReadString('\n')
		require.NoError(r, err)
		n, ok := 0, false
		if whole {
			n, ok = numberOf(r, line)
		} else if _, err := fmt.Sscanf(line, "line %d", &n); err == nil {
			ok = line == numbered(n)
		}
		if !ok {
			continue
		}
		if numbers = append(numbers, n); !goOn(n) {
			r.h.RotateLogs(r.Context())
			return numbers
		}
	}
}

// endless reads a log that goes on, and rotates it at its end.
type endless struct {
	*rig
	log *hive.LogReader
}

func (e endless) Read(p []byte) (int, error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		n, err := e.log.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		e.h.RotateLogs(e.Context())
	}
	return 0, io.ErrNoProgress
}

// smallDisk is set for the test as a child that has mounts of its own.
const smallDisk = "HIVE_TEST_SMALL_DISK"

// A disk that is full, or nearly: hive lives with it, and keeps the newest.
func TestLogsOnAFullDisk(t *testing.T) {
	if kind := os.Getenv(smallDisk); kind != "" {
		onAFullDisk(t, mountSmall(t, kind))
		return
	}
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			if os.Geteuid() != 0 {
				skip(t, "mounting a small file system needs root")
			}
			if _, err := exec.LookPath("mkfs.ext4"); kind == "ext4" && err != nil {
				skip(t, "mkfs.ext4 is not installed")
			}
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.CommandContext(t.Context(), self, "-test.run", "^TestLogsOnAFullDisk$", "-test.v")
			cmd.Env = append(os.Environ(), smallDisk+"="+kind)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // the mount goes with the child
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), "PASS")
			t.Logf("%s", out)
		})
	}
}

// skip skips with a reason; it is a failure where nothing may be skipped.
func skip(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("HIVE_TEST_STRICT") == "1" {
		t.Fatalf("skipped, which HIVE_TEST_STRICT=1 forbids: %s", reason)
	}
	t.Skip(reason)
}

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

func onAFullDisk(t *testing.T, dir string) {
	d := newLogDir(t, dir, 3)
	filler := filepath.Join(dir, "filler")
	onANearlyFullDisk(t, d, filler)
	onAWhollyFullDisk(t, d, filler)

	require.NoError(t, os.Remove(filler))
	_, err := d.file.WriteString("\n")
	require.NoError(t, err)
	first := d.next
	for range 2 {
		d.write(leastLog * 3 / 2)
		d.rotate()
	}
	require.Positive(t, d.size(".1"), "room that comes back is used")
	require.Equal(t, upTo(first, d.next), d.read(d.next-first))
}

// There is no room for a copy, but for the oldest that would go anyhow.
func onANearlyFullDisk(t *testing.T, d *logDir, filler string) {
	t.Logf("blocks can be taken out of the head of a file: %v", d.Collapses())
	for range 3 {
		d.write(leastLog * 3 / 2)
		d.rotate()
	}
	const spare = 16 << 20
	require.Positive(t, d.size(".3"))
	before := d.numbers(-1)
	fill(t, filler, spare+leastLog*7/4)
	d.write(leastLog * 3 / 2)
	d.rotate()
	after := d.numbers(-1)
	require.Equal(t, upTo(after[0], d.next), sequence(after), "nothing is missing")
	require.Greater(t, after[0], before[0])
	require.Positive(t, d.size(".3"), "only the oldest was given up")
}

// There is no room at all: the older are given up, then the log is cut.
func onAWhollyFullDisk(t *testing.T, d *logDir, filler string) {
	reader, err := d.Open(d.Context(), "w", 0)
	require.NoError(t, err)
	defer reader.Close()
	fill(t, filler, 4<<20)
	d.write(leastLog * 5 / 2)
	d.rotate()
	cut := func() {
		t.Helper()
		require.Less(t, d.size(""), int64(2*leastLog))
		for _, suffix := range []string{".1", ".2", ".3", ".new"} {
			require.EqualValues(t, -1, d.size(suffix), suffix)
		}
		raw, err := os.ReadFile(d.path)
		require.NoError(t, err)
		require.Regexp(t, `(?m)^--- hive: log cut [0-9T:Z-]{20}: [0-9]+ bytes are gone, there was no room to keep them$`, string(raw))
	}
	cut()
	if d.Collapses() {
		require.Equal(t, sequence([]int{d.next - 1}), sequence(d.numbers(2)), "the newest were kept")
	}

	// The worker has filled the rest.
	fill(t, filler, leastLog*2)
	for err = nil; err == nil; {
		_, err = d.file.WriteString(numbered(d.next))
		if err == nil {
			d.next++
		}
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	d.rotate()
	cut()
	raw, err := io.ReadAll(reader)
	require.NoError(t, err)
	last := -1
	for line := range strings.Lines(string(raw)) {
		n := -1 // where something is gone, and where the disk was full, a line is torn
		if _, err := fmt.Sscanf(line, "line %d", &n); err == nil && line == numbered(n) {
			require.Greater(t, n, last, "who follows it sees nothing twice")
			last = n
		}
	}
	require.Equal(t, d.Collapses(), last >= 0, "what was kept is read, and no more")
}

// fill takes all that is left of the disk but that many bytes.
func fill(t *testing.T, name string, leave int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	require.NoError(t, err)
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		_, err := f.Write(block)
		switch {
		case errors.Is(err, unix.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			require.NoError(t, err)
		}
	}
	if err := f.Sync(); !errors.Is(err, unix.ENOSPC) {
		require.NoError(t, err)
	}
	info, err := f.Stat()
	require.NoError(t, err)
	require.NoError(t, f.Truncate(info.Size()-leave))
	require.NoError(t, f.Sync())
}
