package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/journal"
	"rbeehive/store"
	"rbeehive/test/skip"
)

// On a real full disk each way to commit does what it is there for: what is new is
// refused, what makes room goes on until the reserve is used up too, and what has happened
// waits.
func TestCommitsOnAFullDisk(t *testing.T) {
	skip.UnlessRoot(t, "mounting a small file system needs root")
	disk := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", disk, "tmpfs", 0, "size=16m"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	r := newRig(t, func(o *store.Options) { o.Path, o.Preallocate = filepath.Join(disk, "hive.db"), 2<<20 })
	filler := filepath.Join(disk, "filler")
	fill(t, filler)

	event := func(message string) func(*journal.Batch) error {
		return func(b *journal.Batch) error { return b.Event(store.EventState, "", "", message, nil) }
	}
	data := func(bytes int) func(*journal.Batch) error {
		return func(b *journal.Batch) error {
			return b.Event(store.EventState, "", "", "data", make([]byte, bytes))
		}
	}
	until := func(commit func(func(*journal.Batch) error) error) {
		t.Helper()
		var err error
		for n := 0; err == nil && n < 5000; n++ {
			err = commit(data(4 << 10))
		}
		require.ErrorIs(t, err, store.ErrDiskFull)
	}
	// Before each, and until it is refused several times in a row: the pages that a commit
	// frees count only once a transaction behind it has ended.
	full := func() {
		t.Helper()
		refused := 0
		for n := 0; refused < 4 && n < 5000; n++ {
			err := r.Commit(t.Context(), event("new"))
			if refused++; err == nil {
				refused = 0
				continue
			}
			require.ErrorIs(t, err, store.ErrDiskFull)
		}
		require.Equal(t, 4, refused)
	}
	until(func(fn func(*journal.Batch) error) error { return r.Commit(t.Context(), fn) })
	full()
	require.NoError(t, r.CommitReserved(t.Context(), event("makes room")))
	full()
	require.NoError(t, r.CommitBestEffort(event("can wait")))
	full()
	done := make(chan struct{})
	go func() { defer close(done); _ = r.CommitRequired(event("has happened")) }()
	r.soon(done, "what has happened is recorded")
	require.Empty(t, r.logs.AllEntries(), "it need not wait")

	until(func(fn func(*journal.Batch) error) error { return r.CommitReserved(t.Context(), fn) })
	large := data(256 << 10) // pages that others have freed meanwhile are not enough for it
	require.ErrorIs(t, r.CommitBestEffort(large), store.ErrDiskFull)
	result := make(chan error, 1)
	go func() {
		result <- r.CommitRequired(func(b *journal.Batch) error { return errors.Join(large(b), event("waited")(b)) })
	}()
	r.eventually("it says that it waits", func() bool { return len(r.logs.AllEntries()) > 0 })
	require.Empty(t, result)
	require.NoError(t, os.Remove(filler))
	require.NoError(t, <-result)
	require.NoError(t, r.Commit(t.Context(), event("new again")))
	require.NoError(t, r.Err(), "a full disk passes")
	all := r.recorded()
	require.Subset(t, all, []string{"makes room", "can wait", "has happened", "waited", "new again"})
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
}
