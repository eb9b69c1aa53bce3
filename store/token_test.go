//go:build linux

package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
	"rbeehive/store/storetest"
)

func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	expires := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	uid := uint32(1000)
	one := store.Token{Name: "ci", SHA256: "ab", Level: "operate", Types: []string{"llama"}, CreatedBy: &store.Requester{UID: &uid, User: "alice"}, ExpiresAt: &expires}
	two := store.Token{Name: "a/b", SHA256: "cd", Level: "read"}
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.PutToken(one))
		require.NoError(t, tx.PutToken(two))
		require.ErrorIs(t, tx.PutToken(store.Token{Name: "x"}), store.ErrInvalid)
		require.ErrorIs(t, tx.PutToken(store.Token{SHA256: "x"}), store.ErrInvalid)
	})
	require.NoError(t, s.Close())

	s, err = store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()); storetest.Check(t, path) })
	view(t, s, func(tx *store.Tx) {
		var all []store.Token
		for token, err := range tx.Tokens() {
			require.NoError(t, err)
			all = append(all, token)
		}
		require.Equal(t, []store.Token{two, one}, all, "by name, and nothing else of meta")
		_, err := tx.Token("none")
		require.ErrorIs(t, err, store.ErrNotFound)
	})
	update(t, s, func(tx *store.Tx) {
		require.NoError(t, tx.DeleteToken("ci"))
		require.ErrorIs(t, tx.DeleteToken("ci"), store.ErrNotFound)
	})
}
