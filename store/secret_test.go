//go:build linux

package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/store"
)

// secretOf opens a file as hive does, and returns its secret.
func secretOf(t *testing.T, path string) store.Secret {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Len(t, s.Secret(), 32)
	return s.Secret()
}

func TestSecretBelongsToTheStateID(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hive.db")
	first := secretOf(t, path)
	require.NotEqual(t, make(store.Secret, 32), first)
	require.Equal(t, first, secretOf(t, path), "it stays")
	require.NotEqual(t, first, secretOf(t, filepath.Join(dir, "other.db")))

	_, _, err := store.Compact(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, first, secretOf(t, path), "a compacted file is the same state")

	backup, copied := filepath.Join(dir, "backup.db"), filepath.Join(dir, "copy.db")
	_, err = store.BackupOffline(t.Context(), path, backup, false)
	require.NoError(t, err)
	info, err := os.Stat(backup)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	copyFile(t, backup, copied)
	require.NotEqual(t, first, secretOf(t, copied), "a copy is another state")

	_, err = store.Restore(t.Context(), backup, path, path+".before", false)
	require.NoError(t, err)
	restored := secretOf(t, path)
	require.NotEqual(t, first, restored)
	require.Equal(t, restored, secretOf(t, path))
}

// A file that only hives without secrets have used is the state that it was.
func TestSecretOfAnOlderFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	before := openClose(t, store.Options{Path: path})
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	update(t, s, func(tx *store.Tx) { require.NoError(t, store.RawDelete(tx, "meta", []byte("secret"))) })
	require.NoError(t, s.Close())
	require.NoError(t, offlineCheck(t, path))

	got := secretOf(t, path)
	require.Equal(t, got, secretOf(t, path))
	after := openClose(t, store.Options{Path: path})
	require.Equal(t, before, after)
}

func TestASecretThatIsNone(t *testing.T) {
	for name, value := range map[string]any{"short": []byte("0123456789"), "text": "s3cr3t text", "number": 4711} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hive.db")
			s, err := store.Open(t.Context(), store.Options{Path: path})
			require.NoError(t, err)
			update(t, s, func(tx *store.Tx) { require.NoError(t, store.RawPut(tx, "meta", []byte("secret"), value)) })
			var corrupt *store.CorruptError
			require.ErrorAs(t, s.Check(t.Context()), &corrupt)
			require.NoError(t, s.Close())
			_, err = store.Open(t.Context(), store.Options{Path: path})
			require.ErrorAs(t, err, &corrupt)
			require.Equal(t, "secret", corrupt.Key)
			require.NotContains(t, err.Error(), "s3cr3t")
			require.NotContains(t, err.Error(), "4711")
			file, err := os.ReadFile(path)
			require.NoError(t, err)
			g := gathered(t, file)
			for _, v := range g.Secrets {
				require.Equal(t, store.FromFreed, v.Source, "of before")
			}
			require.Len(t, g.Damage, 1)
			require.NotContains(t, g.Damage[0].Reason, "s3cr3t")
		})
	}
}

func TestSecretIsShownNowhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	secret := secretOf(t, path)
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(file), base64.StdEncoding.EncodeToString(secret), "the file has it")

	g := gathered(t, file)
	require.Equal(t, []store.Version[store.Secret]{{Record: secret, Source: store.FromTree}}, g.Secrets[:1])
	var out bytes.Buffer
	for _, v := range []any{secret, &secret, g.Secrets, store.Content{Secret: secret}, map[string]any{"s": secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			_, _ = fmt.Fprintf(&out, verb+"\n", v)
		}
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		out.Write(raw)
	}
	require.NoError(t, store.Dump(path, func(r store.Record) error {
		if r.Key == "secret" {
			require.Nil(t, r.Value)
			require.Empty(t, r.Error)
		}
		out.Write(r.Value)
		return nil
	}))
	numbers := fmt.Sprintf("%d", []byte(secret))
	for _, form := range []string{string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), numbers, numbers[1:20]} {
		require.NotContains(t, out.String(), form)
	}
}

// A salvage keeps what it could read, for the next one; a start makes its own.
func TestSecretOfARebuiltFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hive.db")
	known := make(store.Secret, 32)
	known[7] = 1
	require.NoError(t, store.Rebuild(t.Context(), path, nil, "", store.Content{StateID: "s", Secret: known}))
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, known, gathered(t, file).Secrets[0].Record)
	require.NotEqual(t, known, secretOf(t, path), "with its new state id")
}
