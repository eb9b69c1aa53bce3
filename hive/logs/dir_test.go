package logs_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/logs"
)

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	require.NoError(t, logs.Config{MaxSize: logs.MinSize}.Validate())
	for _, bad := range []logs.Config{{}, {MaxSize: logs.MinSize - 1}, {MaxSize: -1}, {MaxSize: logs.MinSize, Keep: -1}} {
		require.Error(t, bad.Validate(), "%+v", bad)
	}
}

// What is written of hive's own is one line of plain text, and only in a file.
func TestPrintf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "w.log")
	logs.Printf(path, "ended: %s", "one\ntwo \x1b[31mred")
	logs.Printf(path, "pid %d", 7)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(raw), "\n"), "%q", raw)
	require.True(t, strings.HasPrefix(string(raw), "--- hive: ended: one"), "%q", raw)
	require.True(t, strings.HasSuffix(string(raw), "\n--- hive: pid 7\n"), "%q", raw)
	require.NotContains(t, string(raw), "\x1b")

	unfinished := filepath.Join(dir, "unfinished.log")
	require.NoError(t, os.WriteFile(unfinished, []byte("50%"), 0o600))
	logs.Printf(unfinished, "exited")
	now, err := os.ReadFile(unfinished)
	require.NoError(t, err)
	require.Equal(t, "50%\n--- hive: exited\n", string(now), "it is a line of its own")

	link := filepath.Join(dir, "link.log")
	require.NoError(t, os.Symlink(path, link))
	logs.Printf(link, "never")
	now, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(raw), string(now))
}

// What was written counts, also once it has been rotated away.
func TestWrittenGoesOnOverARotation(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, d *logDir) {
		d.write(minSize * 3 / 2)
		require.EqualValues(t, minSize*3/2, d.Written("w", d.path))
		d.rotate()
		require.Less(t, d.size(""), int64(minSize*3/2))
		require.EqualValues(t, minSize*3/2, d.Written("w", d.path))
		d.write(640)
		require.EqualValues(t, minSize*3/2+640, d.Written("w", d.path))
	})
}

// A log in another directory, of a state file that was copied, is read and not changed.
func TestALogElsewhereIsOnlyRead(t *testing.T) {
	t.Parallel()
	elsewhere := newLogDir(t, t.TempDir(), 3)
	elsewhere.write(minSize * 3 / 2)
	d := newLogDir(t, t.TempDir(), 3)
	r, err := d.Open(t.Context(), "v", elsewhere.path, 1)
	require.NoError(t, err)
	defer r.Close()
	require.Equal(t, numbered(elsewhere.next-1), restOf(t, r))
	d.Rotate(t.Context(), []logs.Source{{ID: "v", Path: elsewhere.path}})
	require.EqualValues(t, -1, elsewhere.size(".1"))
	require.EqualValues(t, minSize*3/2, elsewhere.size(""))
}

// Run rotates until its end, and says once what is wrong with a log.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := newLogDir(t, dir, 3)
	d.write(minSize * 3 / 2)
	bad := filepath.Join(dir, "bad.log")
	require.NoError(t, os.WriteFile(bad, bytes.Repeat([]byte("x"), 2*minSize), 0o600))
	var text bytes.Buffer
	out := logrus.New()
	out.SetOutput(&text)
	shelf := logs.New(d.cfg, dir, out)
	sources := []logs.Source{{ID: "w", Path: d.path}, {ID: "elsewhere", Path: bad}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		rounds := 0
		var run sync.WaitGroup
		run.Go(func() {
			shelf.Run(ctx, func() []logs.Source {
				if rounds++; rounds == 3 {
					cancel()
				}
				return sources
			})
		})
		run.Wait()
		require.Equal(t, 3, rounds)
	})
	require.Positive(t, d.size(".1"))
	require.Equal(t, 1, strings.Count(text.String(), "cannot be rotated"), text.String())
	require.Contains(t, text.String(), "worker=elsewhere")
}
