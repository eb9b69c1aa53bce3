package main_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	main "rbeehive/cmd/hive"
	"rbeehive/cmd/hivectl/command/db"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// newState is what is in the state file of a hive that has ended, with a worker, a job and an
// event in it.
func newState(t *testing.T) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, openState(t, dir, false, io.Discard))
	s, err := store.Open(t.Context(), store.Options{Path: db.State(dir)})
	require.NoError(t, err)
	require.NoError(t, s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.AppendEvent(store.Event{JobID: "job-1", Message: "something happened"})
		return errors.Join(err, tx.PutWorker(store.Worker{WorkerID: "cpu-8080-abcdef", Type: "cpu", State: store.WorkerStopped}), tx.PutJob(store.Job{JobID: "job-1", Operation: "worker_spawn", State: store.JobSucceeded}))
	}))
	used := s.Stats().FileBytes
	require.NoError(t, s.Close())
	file, err := os.ReadFile(db.State(dir))
	require.NoError(t, err)
	return file[:used]
}

// openState does with a state directory what a start of hive does, and ends it again; if it is
// to be examined, not before the full check of the file is over, of which it returns the result.
func openState(t *testing.T, dir string, examined bool, said io.Writer) error {
	if err := main.PrepareDataDir(dir); err != nil {
		return err
	}
	types, err := catalog.New(nil, "/bin/true")
	require.NoError(t, err)
	log := logrus.New()
	log.SetOutput(said)
	h, err := hive.Open(t.Context(), hive.Config{DataDir: dir, URL: "http://127.0.0.1:1", Catalog: types, Log: log})
	if err != nil {
		return err
	}
	err = h.Recover(t.Context())
	if err == nil && examined {
		err = examination(t, h)
	}
	return errors.Join(err, h.Close())
}

// examination is what the doctor says that the full check has found which hive makes of the
// file once it serves.
func examination(t *testing.T, h *hive.Hive) (found error) {
	require.Eventually(t, func() bool {
		checkups, err := h.Doctor(t.Context())
		require.NoError(t, err)
		for _, c := range checkups {
			if c.Name == "file" && strings.Contains(c.Found, "is damaged") {
				found = fmt.Errorf("%s: %s", c.Found, c.Do)
			}
			if c.Name == "file" && !strings.Contains(c.Found, "is not over") {
				return true
			}
		}
		return false
	}, testTimeout, 10*time.Millisecond)
	return found
}

// checkState is `hivectl db check`: what it says if anything is wrong.
func checkState(t *testing.T, dir string) error {
	c, err := db.Check(t.Context(), dir)
	if refused, ok := errors.AsType[*db.Refusal](err); ok {
		return fmt.Errorf("%s\nhint: %s", refused.Text, refused.Hint)
	}
	if err != nil || len(c.Findings) == 0 {
		return err
	}
	text := c.Path + ": `hivectl db salvage`:"
	for _, f := range c.Findings {
		text += " " + f.String()
	}
	return errors.New(text)
}

// What can be at the path of the state file, and whether hive starts with it. `hivectl db
// check` must say the same; and who is refused is told which file it is, and what to do.
func TestOpeningAndCheckAgree(t *testing.T) {
	for _, c := range openings(newState(t)) {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.Mkdir(dir, 0o700))
			c.put(t, db.State(dir))
			before, _ := os.Lstat(db.State(dir))
			var checked, opened error
			// Neither may wait for anybody.
			done := make(chan struct{})
			go func() {
				defer close(done)
				checked = checkState(t, dir)
				opened = openState(t, dir, c.later, io.Discard)
			}()
			select {
			case <-done:
			case <-time.After(testTimeout):
				t.Fatal("it waits")
			}
			if c.says == "" {
				require.NoError(t, checked)
				require.NoError(t, opened)
				return
			}
			for who, err := range map[string]error{"check": checked, "opening": opened} {
				require.ErrorContains(t, err, c.says, who)
				require.ErrorContains(t, err, db.State(dir), who)
				require.ErrorContains(t, err, c.remedy, who)
				require.NotContains(t, err.Error(), "assertion", who)
				require.NotContains(t, err.Error(), "runtime error", who)
			}
			after, err := os.Lstat(db.State(dir))
			require.NoError(t, err)
			require.True(t, os.SameFile(before, after), "it stays")
		})
	}
}

type opening struct {
	name         string
	put          func(t *testing.T, path string)
	says, remedy string // of both; empty: hive starts
	later        bool   // hive starts too, and finds out then: nothing that it does hangs on it
}

func openings(whole []byte) []opening {
	const salvage = "`hivectl db salvage"
	contents := func(edit func(file []byte) []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, edit(append([]byte{}, whole...)), 0o600))
		}
	}
	flipIn := func(text string) func(t *testing.T, path string) {
		return contents(func(file []byte) []byte {
			return []byte(strings.ReplaceAll(string(file), text, strings.ToUpper(text)))
		})
	}
	noise, random := make([]byte, 1<<16), rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	return []opening{
		{name: "whole", put: contents(func(file []byte) []byte { return file })},
		{name: "with something behind it", put: contents(func(file []byte) []byte { return append(file, noise...) })},
		{name: "by a link", put: link(true, whole)},
		{name: "one meta page lost", put: contents(func(file []byte) []byte { clear(file[:4096]); return file })},
		{name: "both meta pages lost", put: contents(func(file []byte) []byte { clear(file[:8192]); return file }), says: "neither meta page is valid", remedy: salvage},
		{name: "of 0 bytes", put: contents(func([]byte) []byte { return nil }), says: "it is empty", remedy: salvage},
		{name: "of noise", put: contents(func([]byte) []byte { return noise }), says: "neither meta page is valid", remedy: salvage},
		{name: "of text", put: contents(func([]byte) []byte { return []byte("workers:\n") }), says: "neither meta page is valid", remedy: salvage},
		{name: "cut off", put: contents(func(file []byte) []byte { return file[:len(file)-1] }), says: "the file is cut off", remedy: salvage},
		{name: "a lost page", put: contents(func(file []byte) []byte { clear(file[rootOf(file):][:4096]); return file }), says: "says that it is page 0", remedy: salvage},
		{name: "a damaged worker", put: flipIn(`"type":"cpu"`), says: "cpu-8080-abcdef: checksum differs", remedy: salvage},
		{name: "a damaged job", put: flipIn(`"job_id":"job-1","operation"`), says: "job-1: checksum differs", remedy: salvage},
		{name: "a damaged event", put: flipIn("something happened"), says: "checksum differs", remedy: salvage, later: true},
		{name: "of somebody else", put: foreign, says: "not a hive state file", remedy: salvage},
		{name: "a directory", put: func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o700)) }, says: "is a directory", remedy: salvage},
		{name: "a link that leads nowhere", put: link(false, nil), says: "is a symbolic link that leads nowhere", remedy: salvage},
		{name: "a link to itself", put: func(t *testing.T, path string) { require.NoError(t, os.Symlink(path, path)) }, says: "is a symbolic link that leads nowhere", remedy: salvage},
		{name: "a fifo", put: func(t *testing.T, path string) { require.NoError(t, syscall.Mkfifo(path, 0o600)) }, says: "is a fifo", remedy: salvage},
		{name: "a socket", put: socket, says: "is a socket", remedy: salvage},
		{name: "a device", put: device, says: "is a device", remedy: salvage},
		{name: "that may not be read", put: unreadable(whole), says: "permission denied", remedy: "user that hive runs as"},
	}
}

// What one meta page led to may be missing, and nothing else shows that.
func TestALostMetaPageIsReported(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o700))
	file := newState(t)
	clear(file[:4096])
	require.NoError(t, os.WriteFile(db.State(dir), file, 0o600))
	for _, want := range []bool{true, false} {
		c, err := db.Check(t.Context(), dir)
		require.NoError(t, err)
		require.Equal(t, want, c.MetaPageLost)
		var said strings.Builder
		require.NoError(t, openState(t, dir, false, &said))
		require.Equal(t, want, strings.Contains(said.String(), "one of the two meta pages of the state file is lost"), said.String())
	}
}

// rootOf is where the page of the buckets is, by the newer meta page.
func rootOf(file []byte) (at int64) {
	ne, newest := binary.NativeEndian, uint64(0)
	for _, meta := range [][]byte{file[16:], file[4096+16:]} {
		if txid := ne.Uint64(meta[48:]); txid >= newest {
			newest, at = txid, int64(ne.Uint64(meta[16:]))*4096
		}
	}
	return at
}

func link(toFile bool, whole []byte) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		if toFile {
			require.NoError(t, os.WriteFile(path+".file", whole, 0o600))
		}
		require.NoError(t, os.Symlink(path+".file", path))
	}
}

func foreign(t *testing.T, path string) {
	b, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, b.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	}))
	require.NoError(t, b.Close())
}

func socket(t *testing.T, path string) {
	dir, err := os.MkdirTemp("", "hive") // the name of a socket is short
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	ln, err := new(net.ListenConfig).Listen(context.Background(), "unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	require.NoError(t, os.Link(filepath.Join(dir, "s"), path))
}

func device(t *testing.T, path string) {
	skip.UnlessRoot(t, "only root can make a device")
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3); errors.Is(err, fs.ErrPermission) { // as /dev/null
		skip.Because(t, "no device can be made here: "+err.Error())
	} else {
		require.NoError(t, err)
	}
}

func unreadable(whole []byte) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		if os.Geteuid() == 0 {
			t.Skip("root reads it all the same")
		}
		require.NoError(t, os.WriteFile(path, whole, 0))
	}
}
