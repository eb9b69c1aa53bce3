// Package storetest opens stores for tests, and checks them afterwards.
package storetest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require" //nolint:depguard // only tests import this package

	"rbeehive/store"
)

// Open opens a new state file in a temporary directory. When the test ends the
// store is closed (it may be closed already), opened again and checked: the
// file must be whole after every test, also one that failed. The options begin
// with Path set; edit may change them.
func Open(t testing.TB, edit ...func(*store.Options)) *store.Store {
	t.Helper()
	o := store.Options{Path: filepath.Join(t.TempDir(), "hive.db")}
	for _, e := range edit {
		e(&o)
	}
	s, err := store.Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		Check(t, o.Path)
	})
	return s
}

// Check opens the state file at path, which nobody else may have open, and
// fails the test for everything that store.Check finds.
func Check(t testing.TB, path string) {
	t.Helper()
	// Not t.Context: it has ended when a cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := store.Open(ctx, store.Options{Path: path})
	require.NoError(t, err, "open the state file again")
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, s.Check(ctx), "check the state file")
}
