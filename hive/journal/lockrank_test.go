//go:build lockrank

package journal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/journal"
	"rbeehive/hive/lock"
)

// A commit under the lock of a table would keep whoever reads it waiting for the disk.
func TestNoCommitUnderTheLockOfATable(t *testing.T) {
	r := newRig(t)
	var table lock.Ranked[lock.Registry]
	commit := func() { _ = r.Commit(t.Context(), func(*journal.Batch) error { return nil }) }
	table.Lock()
	require.Panics(t, commit)
	table.Unlock()
	require.NotPanics(t, commit)
}
