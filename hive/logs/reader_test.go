package logs_test

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/logs"
)

func TestTheLastLinesReachIntoRotatedFiles(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		d.write(minSize * 3 / 2)
		d.rotate()
		d.write(minSize)
		d.rotate()
		per := minSize / 64
		for _, lines := range []int{0, 1, 2, per / 2, per - 1, per, per + 1, 2 * per, d.next - 1, d.next, d.next + 1} {
			require.Equal(t, upTo(max(0, d.next-lines), d.next), d.read(lines), lines)
		}
		require.Equal(t, upTo(0, d.next), d.read(-1))
		_, err := d.file.WriteString("unfinished")
		require.NoError(t, err)
		r, err := d.Open(d.Context(), "w", d.path, 2)
		require.NoError(t, err)
		defer r.Close()
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, numbered(d.next-1)+"unfinished", string(got))
	})
}

// The same lines, however they lie in the files.
func TestLastLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789\n", 10_000) // several blocks
	for _, c := range []struct {
		name, content string
		lines         int
		want          string
	}{
		{"all", "a\nb\n", -1, "a\nb\n"},
		{"none", "a\nb\n", 0, ""},
		{"one", "a\nb\n", 1, "b\n"},
		{"two", "a\nb\n", 2, "a\nb\n"},
		{"more than there are", "a\nb\n", 9, "a\nb\n"},
		{"unfinished line counts", "a\nb\nc", 2, "b\nc"},
		{"empty lines count", "a\n\n\n", 2, "\n\n"},
		{"empty file", "", 5, ""},
		{"only a newline", "\n", 1, "\n"},
		{"across blocks", long, 4000, long[len(long)-4000*11:]},
		{"one line longer than a block", "a\n" + strings.Repeat("x", 100_000), 1, strings.Repeat("x", 100_000)},
	} {
		for _, parts := range []int{1, 2, 3, 4} {
			t.Run(fmt.Sprintf("%s in %d", c.name, parts), func(t *testing.T) {
				d := newLogDir(t, t.TempDir(), 3)
				step := len(c.content) / parts
				for n := parts - 1; n >= 0; n-- {
					name, part := d.path+"."+strconv.Itoa(n), c.content[step*(parts-1-n):]
					if n > 0 {
						part = part[:step]
					} else {
						name = d.path
					}
					require.NoError(t, os.WriteFile(name, []byte(part), 0o600))
				}
				r, err := d.Open(d.Context(), "w", d.path, c.lines)
				require.NoError(t, err)
				defer r.Close()
				got, err := io.ReadAll(r)
				require.NoError(t, err)
				require.Equal(t, c.want, string(got))
			})
		}
	}
}

// The error of a failed start shows the worker's own last lines, wherever they are.
func TestLastLinesOfAFailedStart(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	require.Empty(t, d.LastLines(d.Context(), "w", d.path, logs.Started, 3))
	require.Empty(t, d.LastLines(d.Context(), "nobody", d.Path("nobody"), logs.Started, 3))
	_, err := d.file.WriteString("--- hive: started\n\x1b[1;36mone\x1b[0m\r\n\ntwo\xff\n")
	require.NoError(t, err)
	require.Equal(t, []string{"one", `two\xff`}, d.LastLines(d.Context(), "w", d.path, logs.Started, 3))
	require.NoError(t, os.Rename(d.path, d.path+".1"))
	require.NoError(t, os.WriteFile(d.path, nil, 0o600))
	d.again(3)
	require.Equal(t, []string{`two\xff`}, d.LastLines(d.Context(), "w", d.path, logs.Started, 1), "the log itself is empty")
	require.NoError(t, os.WriteFile(d.path, []byte(strings.Repeat("three\n", 10_000)), 0o600))
	require.Equal(t, []string{"three", "three"}, d.LastLines(d.Context(), "w", d.path, logs.Started, 2))
}

// The error of a failed restart shows nothing of the run before, whatever that ended with,
// and the error of a command nothing but what is behind its own line.
func TestLastLinesAreOfTheLastStart(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	last := func(since string) []string { return d.LastLines(d.Context(), "w", d.path, since, 3) }
	_, err := d.file.WriteString("loaded\nserving\n  50%\r 100%") // it was killed in the middle of a line
	require.NoError(t, err)
	require.Equal(t, []string{"loaded", "serving", " 100%"}, last(logs.Started))
	logs.Printf(d.path, "exited pid 7")
	logs.Printf(d.path, "before_start: sh")
	_, err = d.file.WriteString("prepared\n")
	require.NoError(t, err)
	require.Equal(t, []string{"prepared"}, last("before_start:"))
	logs.Printf(d.path, "started again, pid 8")
	require.Empty(t, last(logs.Started), "this one has said nothing")
	_, err = d.file.WriteString("no such model\n")
	require.NoError(t, err)
	logs.Printf(d.path, "ended: exited with code 1")
	require.Equal(t, []string{"no such model"}, last(logs.Started))
	raw, err := os.ReadFile(d.path)
	require.NoError(t, err)
	require.Contains(t, string(raw), " 100%\n--- hive: exited pid 7\n--- hive: before_start", "hive's lines are lines of their own, and no line is empty")
}

// Of a progress bar the error shows what a terminal does at last, and no line is longer
// than a person reads.
func TestLastLinesOfAProgressBar(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	for text, want := range map[string][]string{
		"loading\n" + strings.Repeat("\r 50% [=====>    ]", 2000) + "\r100%": {"100%"},
		strings.Repeat("50%\r", 20) + "\nout of memory\r\n":                  {"50%", "out of memory"},
		"\x1b[2K\r\x1b[1m 99%\x1b[0m\x1b[K\r\x1b[2K\r      \r\nbroken":       {" 99%", "broken"},
		strings.Repeat("x", 5000) + "\n":                                     {strings.Repeat("x", 1000) + "..."},
		"\r\r\n\r\n":                                                         {},
	} {
		require.NoError(t, os.WriteFile(d.path, []byte(text), 0o600))
		require.Equal(t, want, d.LastLines(d.Context(), "w", d.path, logs.Started, 3), "%.40q", text)
	}
}

// A reader that is in the middle when the log is rotated, as often as can be.
func TestReadingWhileTheLogIsRotated(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		d.write(minSize / 2)
		fast, err := d.Open(d.Context(), "w", d.path, -1)
		require.NoError(t, err)
		defer fast.Close()
		slow, err := d.Open(d.Context(), "w", d.path, 1)
		require.NoError(t, err)
		defer slow.Close()
		var got []int
		for range 12 {
			got = append(got, numbersIn(t, fast)...)
			d.write(minSize * 3 / 4)
			d.rotate()
		}
		require.Equal(t, upTo(0, d.next), sequence(append(got, numbersIn(t, fast)...)), "each number once and in order")

		// It had not read for too long: what is gone is passed over.
		seen := numbersIn(t, io.MultiReader(io.LimitReader(slow, 64), slow))
		require.NotEmpty(t, seen)
		rest := d.numbers(-1)
		require.Equal(t, sequence(rest[len(rest)-len(seen):]), sequence(seen))
		require.Empty(t, restOf(t, fast))
	})
}

// Rotated files are removed while they are read, and the log is cut by its worker.
func TestReadingWhatOthersChange(t *testing.T) {
	t.Parallel()
	d := newLogDir(t, t.TempDir(), 3)
	for range 3 {
		d.write(minSize * 3 / 2)
		d.rotate()
	}
	r, err := d.Open(d.Context(), "w", d.path, -1)
	require.NoError(t, err)
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, 64))
	require.NoError(t, err)
	require.NoError(t, os.Remove(d.path+".1"))
	require.NoError(t, os.Remove(d.path+".2"))
	numbers := numbersIn(t, r)
	require.Equal(t, d.next-1, numbers[len(numbers)-1])
	require.True(t, slices.IsSorted(numbers))

	require.NoError(t, d.file.Truncate(0))
	first := d.next
	d.write(128)
	require.Equal(t, upTo(first, d.next), sequence(numbersOf(t, restOf(t, r))), "what comes after a cut is new")
	d.write(minSize)
	d.rotate()
	require.Equal(t, upTo(first+2, d.next), sequence(numbersIn(t, r)))
}
