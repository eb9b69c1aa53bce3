package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/catalog"
	"rbeehive/hive/logs"
	"rbeehive/httpapi/wire"
	"rbeehive/test/skip"
)

// chatter is a worker that prints numbered lines until hive has rotated its log twice, or
// after 100 MB, and ends.
func chatter() int {
	log, err := os.Readlink("/proc/self/fd/1")
	if err != nil {
		return 1
	}
	for n := range 2_000_000 {
		if n%100 == 0 {
			<-time.After(time.Millisecond)
			if _, err := os.Stat(log + ".2"); err == nil {
				return 0
			}
		}
		if _, err := fmt.Fprintf(os.Stdout, "line %d %s\n", n, strings.Repeat(".", 50)); err != nil {
			return 1
		}
	}
	return 0
}

// Who follows a log sees each line once and in order, however often the log is
// rotated meanwhile; and what is asked for later comes from all of its files.
func TestALogIsFollowedOverRotations(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	r := newRig(t, rigOptions{logs: logs.Config{MaxSize: 1 << 20, Keep: 100}},
		catalog.Entry{Name: "chatter", Command: []string{self, "chatter"}})
	job := r.do(`{"operation":"worker_spawn","worker":"chatter","wait":"started"}`)
	require.Equal(t, "succeeded", job.State, "%+v", job.Error)
	wkr := r.awaitWorker("chatter", "starting")
	path := "/v1/workers/" + wkr.WorkerID + "/logs"

	followed := r.open(path + "?follow=1")
	numbers, whole := 0, takesHeads(t, filepath.Dir(wkr.Log))
	var text strings.Builder
	lines := bufio.NewReader(io.TeeReader(followed.Body, &text))
	for last := -1; ; numbers++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break // the worker has ended
		}
		require.NoError(t, err)
		if strings.HasPrefix(line, "--- hive: ") {
			numbers--
			continue
		}
		var n int
		_, err = fmt.Sscanf(line, "line %d", &n)
		require.NoError(t, err, "%q", line)
		require.Greater(t, n, last, "in order, and none twice")
		if whole {
			require.Equal(t, last+1, n, "and none is missing")
		}
		last = n
	}
	require.Greater(t, numbers, 1000)
	require.FileExists(t, wkr.Log+".2", "it was rotated")

	all := text.String()
	require.Equal(t, len(all), len(r.get(path, http.StatusOK)))
	live, err := os.ReadFile(wkr.Log)
	require.NoError(t, err)
	tail := strings.SplitAfter(all, "\n")
	more := bytes.Count(live, []byte("\n")) + 1000 // than there are in the log itself
	require.Greater(t, len(tail), more)
	require.Equal(t, strings.Join(tail[len(tail)-1-more:], ""), r.get(fmt.Sprintf("%s?tail=%d", path, more), http.StatusOK))
}

// takesHeads reports whether the file system can take blocks out of the head of
// a file; where it cannot, a line may be lost when a log is rotated.
func takesHeads(t *testing.T, dir string) bool {
	t.Helper()
	f, err := os.CreateTemp(dir, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(f.Close(), os.Remove(f.Name()))) }()
	require.NoError(t, f.Truncate(1<<20))
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 64<<10) == nil
}

// The path is in the record, but what lies there may have been replaced.
func TestOnlyAFileIsShownAsALog(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.spawn("cpu")
	path := "/v1/workers/" + w.WorkerID + "/logs"
	log := decode[wire.Worker](t, r.get("/v1/workers/"+w.WorkerID, http.StatusOK)).Log
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	require.NoError(t, os.Remove(log))
	require.Contains(t, r.get(path, http.StatusNotFound), "the file is gone")
	require.NoError(t, os.Symlink(secret, log))
	require.NotContains(t, r.get(path, http.StatusInternalServerError), "secret")
}

// hugeLog is a worker whose log begins with two lines and is 8 TiB long, which takes
// no room: its owner can have it so.
func hugeLog(r *rig) (path, log string) {
	r.Helper()
	w := r.spawn("cpu")
	path = "/v1/workers/" + w.WorkerID + "/logs"
	log = decode[wire.Worker](r.T, r.get("/v1/workers/"+w.WorkerID, http.StatusOK)).Log
	require.NoError(r, os.WriteFile(log, []byte("one\ntwo\n"), 0o600))
	err := os.Truncate(log, 8<<40)
	if errors.Is(err, unix.EFBIG) {
		skip.Because(r.T, "the file system takes no file of 8 TiB")
	}
	require.NoError(r, err)
	r.client.Timeout = 20 * time.Second
	return path, log
}

// say appends to a log as its worker does.
func say(t *testing.T, log, text string) {
	t.Helper()
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString(text)
	require.NoError(t, err)
}

// The last line of such a log is found at once, no zeros are sent, and who has gone is
// not served any more.
func TestALogThatIsOneLargeHole(t *testing.T) {
	r := newRig(t, rigOptions{})
	path, log := hugeLog(r)
	require.Equal(t, "two\n", r.get(path+"?tail=1", http.StatusOK))
	require.Equal(t, "one\ntwo\n", r.get(path, http.StatusOK))
	say(t, log, "three\n")
	require.Equal(t, "three\n", r.get(path+"?tail=1", http.StatusOK))
	require.Equal(t, "one\ntwo\nthree\n", r.get(path+"?tail=10", http.StatusOK))

	followed := r.open(path + "?follow=1&tail=1")
	lines := bufio.NewReader(followed.Body)
	next := func() string {
		t.Helper()
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		return line
	}
	require.Equal(t, "three\n", next())
	say(t, log, "four\n")
	require.Equal(t, "four\n", next())
	require.Equal(t, 1, r.active())
	require.NoError(t, followed.Body.Close())
	require.Eventually(t, func() bool { return r.active() == 0 }, 5*time.Second, 5*time.Millisecond)
}

// A client that takes nothing of a log does not hold up a shutdown.
func TestAShutdownCutsALogOff(t *testing.T) {
	r := newRig(t, rigOptions{narrow: true})
	w := r.spawn("cpu")
	log := decode[wire.Worker](t, r.get("/v1/workers/"+w.WorkerID, http.StatusOK)).Log
	say(t, log, strings.Repeat("line\n", 4<<20))
	var answers []*http.Response
	for _, query := range []string{"", "?follow=1"} {
		answers = append(answers, r.open("/v1/workers/"+w.WorkerID+"/logs"+query))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, r.server.Shutdown(ctx))
	for _, resp := range answers {
		_, err := io.Copy(io.Discard, resp.Body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a part must not look like the whole")
	}
}
