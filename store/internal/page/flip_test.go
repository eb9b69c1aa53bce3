package page_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/store/internal/kv"
	"rbeehive/store/internal/page"
)

// What is no record has no checksum: the heads of pages, their elements, the keys of branches.
// A flip in one of these must not hide a record from hive, which asks by key, nor from a
// salvage, which goes by the tree where that seems whole.
func TestAFlipHidesNoRecord(t *testing.T) {
	path, records := makeFile(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	f := open(t, path)
	random := rand.New(rand.NewPCG(5, 6))
	tried := 0
	try := func(at int64, bit int) {
		flipped := []byte{whole[at] ^ 1<<bit}
		_, err := f.WriteAt(flipped, at)
		require.NoError(t, err)
		what := fmt.Sprintf("page %d offset %d bit %d", at/pageSize, at%pageSize, bit)
		found := walk(t, f)
		if page.Examine(f) == nil {
			got, noticed := read(t, path)
			require.True(t, noticed || maps.Equal(records, got), "it passes, and hides a record from hive: %s", what)
		}
		if len(found.damage) == 0 {
			require.True(t, maps.Equal(records, found.records[page.FromTree]), "it seems whole, and hides a record from a salvage: %s", what)
		}
		_, err = f.WriteAt(whole[at:at+1], at)
		require.NoError(t, err)
		tried++
	}
	pages(t, f, func(id int64, flags uint16) {
		if flags != 0x01 && flags != 0x02 || !inUse(t, f, id) {
			return
		}
		count := int64(binary.NativeEndian.Uint16(whole[id*pageSize+10:]))
		for range 5 {
			try(id*pageSize+8+random.Int64N(8), random.IntN(8)) // flags, count and overflow
			try(id*pageSize+16+random.Int64N(16*count), random.IntN(8))
		}
		for range 100 * (2 - int(flags)) { // anything in a branch
			try(id*pageSize+random.Int64N(16+30*count), random.IntN(8))
		}
	})
	require.Greater(t, tried, 400)
}

// inUse reports whether a page is, by zeroing it.
func inUse(t *testing.T, f *os.File, id int64) bool {
	t.Helper()
	old := make([]byte, pageSize)
	_, err := f.ReadAt(old, id*pageSize)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, pageSize), id*pageSize)
	require.NoError(t, err)
	damaged := page.Examine(f) != nil
	_, err = f.WriteAt(old, id*pageSize)
	require.NoError(t, err)
	return damaged
}

// read asks bbolt for each record by its key, as hive does; noticed, if a checksum tells that
// one is damaged.
func read(t *testing.T, path string) (records map[string]string, noticed bool) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	records = map[string]string{}
	err = kv.View(db, path, func(tx *kv.Tx) error {
		get := func(b kv.Bucket, key string) {
			var v string
			if err := tx.Get(b, []byte(key), &v); err == nil {
				records[string(b)+"/"+kv.KeyName(b, []byte(key))] = v
			}
		}
		for i := range 500 {
			get(kv.Jobs, fmt.Sprintf("job-%04d", i))
		}
		get(kv.Names, "small")
		get(kv.Workers, "large")
		for _, b := range kv.Buckets() {
			for _, err := range tx.Scan(b, kv.Range{}) {
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	return records, errors.As(err, new(*kv.CorruptError))
}
