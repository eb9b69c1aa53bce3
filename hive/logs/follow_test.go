package logs_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/logs"
)

// A process writes as fast as it can while its log is rotated and hive is started
// anew. Somebody follows it all the time, after the restart from its first line.
func TestTheLogOfALivingWorkerIsRotated(t *testing.T) {
	t.Parallel()
	const lines = 300_000
	for mode, pauseAfter := range map[string]int{"as it is": 0, "copied and cut": 200} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			d := newLogDir(t, t.TempDir(), 100)
			restart := func() {
				d.cfg.MaxSize = 2 << 20
				d.again(100)
				if mode != "as it is" {
					d.Copy()
				}
			}
			restart()
			whole := d.Collapses()
			before, err := os.Stat(d.path)
			require.NoError(t, err)
			d.startWriter(t, lines, pauseAfter)

			d.follow(whole, func(n int) bool { return n < lines/3 })
			restart()
			numbers := d.follow(whole, func(n int) bool { return n < lines-1 })
			after, err := os.Stat(d.path)
			require.NoError(t, err)
			require.True(t, os.SameFile(before, after))
			require.LessOrEqual(t, after.Size(), d.cfg.MaxSize)
			require.Positive(t, d.size(".1"))
			t.Logf("%d of %d lines, without any loss: %v", len(numbers), lines, whole)
			if whole {
				require.Equal(t, upTo(0, lines), sequence(numbers))
			} else {
				require.True(t, slices.IsSorted(numbers) && len(slices.Compact(slices.Clone(numbers))) == len(numbers), "in order and none twice")
				require.NotEmpty(t, numbers) // how many are lost depends on how soon hive gets to look
			}
			kept := d.numbersOfWholeLines(whole)
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

// startWriter starts a process that has the log as its output.
func (d *logDir) startWriter(t *testing.T, lines, pauseAfter int) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "writer", strconv.Itoa(lines), strconv.Itoa(pauseAfter))
	cmd.Stdout = d.file
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() }) // the end of the test's context has killed it
}

// follow rotates the log and reads it from the beginning until a number is the last.
// Where the log is copied and cut, a line may be torn.
func (d *logDir) follow(whole bool, goOn func(number int) bool) (numbers []int) {
	d.Helper()
	r, err := d.Open(d.Context(), "w", d.path, -1)
	require.NoError(d, err)
	defer r.Close()
	lines := bufio.NewReaderSize(rotating{d, r}, 1<<16)
	for {
		line, err := lines.ReadString('\n')
		require.NoError(d, err)
		n, ok := d.number(line, whole)
		if !ok {
			continue
		}
		if numbers = append(numbers, n); !goOn(n) {
			d.rotate()
			return numbers
		}
	}
}

// number is numberOf, but of a torn line only where there must be none.
func (d *logDir) number(line string, whole bool) (n int, ok bool) {
	d.Helper()
	if whole {
		return numberOf(d, line)
	}
	_, err := fmt.Sscanf(line, "line %d", &n)
	return n, err == nil && line == numbered(n)
}

func (d *logDir) numbersOfWholeLines(whole bool) (numbers []int) {
	d.Helper()
	r, err := d.Open(d.Context(), "w", d.path, -1)
	require.NoError(d, err)
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if n, ok := d.number(lines.Text()+"\n", whole); ok {
			numbers = append(numbers, n)
		}
	}
	require.NoError(d, lines.Err())
	return numbers
}

// rotating reads a log that goes on, and rotates it at its end.
type rotating struct {
	d *logDir
	r *logs.Reader
}

func (r rotating) Read(p []byte) (int, error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		n, err := r.r.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		r.d.rotate()
	}
	return 0, io.ErrNoProgress
}
