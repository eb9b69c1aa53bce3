package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

func putReady(id string) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		return tx.PutWorker(store.Worker{WorkerID: id, Type: "cpu", State: store.WorkerStopped})
	}
}

// The state file is removed, alone or with its directory, or another is put in its place,
// while the store is open: nothing more is acknowledged, and what was is not lost.
func TestTheFileIsTakenAway(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.db")
	s, err := store.Open(t.Context(), store.Options{Path: other})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	for name, c := range map[string]struct {
		take func(path string) error
		says string
		kept string // where; empty: at its path
	}{
		"removed":                    {os.Remove, "has been written back", ""},
		"removed with its directory": {func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, "has been written back", ""},
		"replaced":                   {func(path string) error { return os.Rename(other, path) }, "was replaced by another file", "hive.db.replaced-*"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.Mkdir(dir, 0o700))
			path := filepath.Join(dir, "hive.db")
			s, err := store.Open(t.Context(), store.Options{Path: path})
			require.NoError(t, err)
			id := s.Meta().StateID
			require.NoError(t, s.Update(t.Context(), putReady("one")))
			require.NoError(t, c.take(path))

			err = s.Update(t.Context(), putReady("two"))
			require.ErrorIs(t, err, store.ErrFailed)
			require.Contains(t, err.Error(), c.says)
			<-s.Failed()
			require.ErrorIs(t, s.Update(t.Context(), putReady("three")), store.ErrFailed)
			require.NoError(t, s.Close())

			if c.kept != "" {
				saved, err := filepath.Glob(filepath.Join(dir, c.kept))
				require.NoError(t, err)
				require.Len(t, saved, 1)
				require.Contains(t, s.Err().Error(), saved[0])
				path = saved[0]
			}
			again, err := store.Open(context.Background(), store.Options{Path: path})
			require.NoError(t, err)
			defer func() { require.NoError(t, again.Close()) }()
			require.Equal(t, id, again.Meta().StateID)
			require.False(t, again.Meta().Relocated, "it is the one that was there")
			require.NoError(t, again.Check(t.Context()))
			require.NoError(t, again.View(func(tx *store.Tx) error {
				_, err := tx.Worker("two")
				require.ErrorIs(t, err, store.ErrNotFound, "what was refused was not done")
				_, err = tx.Worker("one")
				return err
			}))
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			for _, f := range left {
				require.False(t, strings.HasPrefix(f.Name(), "."), f.Name())
				require.True(t, c.kept != "" || !strings.Contains(f.Name(), "replaced"), f.Name())
			}
		})
	}
}

// It is cut off or emptied under an open store, as `cp` onto it begins: what is mapped and not
// there any more must neither end the process nor leave anybody waiting.
func TestTheFileIsCutOff(t *testing.T) {
	for _, size := range []int64{0, 100, 4096, 8192, 8200} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hive.db")
			s, err := store.Open(t.Context(), store.Options{Path: path})
			require.NoError(t, err)
			require.NoError(t, s.Update(t.Context(), putReady("one")))
			require.NoError(t, os.Truncate(path, size))
			for what, use := range map[string]func() error{
				"view":   func() error { return s.View(func(*store.Tx) error { return nil }) },
				"update": func() error { return s.Update(t.Context(), putReady("two")) },
				"check":  func() error { return s.Check(t.Context()) },
				"backup": func() error { return s.BackupTo(t.Context(), path+".backup") },
			} {
				err := use()
				require.ErrorIs(t, err, store.ErrFailed, what)
				require.ErrorContains(t, err, "state file "+path+" is damaged: it was cut off while hive had it open", what)
			}
			<-s.Failed()
			require.NoError(t, s.Close())
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, size, info.Size(), "what is left is left as it is")
			_, err = store.Open(t.Context(), store.Options{Path: path})
			require.ErrorAs(t, err, new(*store.CorruptError))
		})
	}
}

// Also where nothing is written: who asks whether the store works is told.
func TestAskingFindsThatTheFileIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	nothing := func(*store.Tx) error { return nil }
	require.NoError(t, s.Update(t.Context(), nothing))
	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, s.Update(t.Context(), nothing), store.ErrFailed)
}
