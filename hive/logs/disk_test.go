package logs_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/test/skip"
)

// A disk that is full, or nearly: hive lives with it, and keeps the newest.
func TestLogsOnAFullDisk(t *testing.T) {
	if kind := os.Getenv(smallDisk); kind != "" {
		onAFullDisk(t, mountSmall(t, kind))
		return
	}
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			if os.Geteuid() != 0 {
				skip.Because(t, "mounting a small file system needs root")
			}
			if _, err := exec.LookPath("mkfs.ext4"); kind == "ext4" && err != nil {
				skip.Because(t, "mkfs.ext4 is not installed")
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
		d.write(minSize * 3 / 2)
		d.rotate()
	}
	require.Positive(t, d.size(".1"), "room that comes back is used")
	require.Equal(t, upTo(first, d.next), d.read(d.next-first))
}

// There is no room for a copy, but for the oldest that would go anyhow.
func onANearlyFullDisk(t *testing.T, d *logDir, filler string) {
	t.Logf("blocks can be taken out of the head of a file: %v", d.Collapses())
	for range 3 {
		d.write(minSize * 3 / 2)
		d.rotate()
	}
	const spare = 16 << 20
	require.Positive(t, d.size(".3"))
	before := d.numbers(-1)
	fill(t, filler, spare+minSize*7/4)
	d.write(minSize * 3 / 2)
	d.rotate()
	after := d.numbers(-1)
	require.Equal(t, upTo(after[0], d.next), sequence(after), "nothing is missing")
	require.Greater(t, after[0], before[0])
	require.Positive(t, d.size(".3"), "only the oldest was given up")
}

// There is no room at all: the older are given up, then the log is cut.
func onAWhollyFullDisk(t *testing.T, d *logDir, filler string) {
	reader, err := d.Open(d.Context(), "w", d.path, 0)
	require.NoError(t, err)
	defer reader.Close()
	fill(t, filler, 4<<20)
	d.write(minSize * 5 / 2)
	d.rotate()
	cut := func() {
		t.Helper()
		require.Less(t, d.size(""), int64(2*minSize))
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
	fill(t, filler, minSize*2)
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
