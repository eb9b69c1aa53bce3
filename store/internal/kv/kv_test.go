package kv_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/store/internal/kv"
)

// open makes a file with all buckets.
func open(t *testing.T) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "kv.db"), 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.Update(func(btx *bbolt.Tx) error {
		for _, b := range kv.Buckets() {
			if _, err := btx.CreateBucket([]byte(b)); err != nil {
				return err
			}
		}
		return nil
	}))
	return db
}

func write(t *testing.T, db *bbolt.DB, fn func(*kv.Tx) error) {
	t.Helper()
	require.NoError(t, kv.Update(db, "file", fn))
}

func fill(tx *kv.Tx, keys ...string) error {
	for _, k := range keys {
		if err := tx.Put(kv.Names, []byte(k), k); err != nil {
			return err
		}
	}
	return nil
}

func scan(t *testing.T, tx *kv.Tx, r kv.Range) []string {
	t.Helper()
	var keys []string
	for e, err := range tx.Scan(kv.Names, r) {
		require.NoError(t, err)
		keys = append(keys, string(e.Key))
	}
	return keys
}

func TestScanRanges(t *testing.T) {
	db := open(t)
	write(t, db, func(tx *kv.Tx) error { return fill(tx, "a", "ab", "abc", "b", "c") })
	for name, c := range map[string]struct {
		r    kv.Range
		want []string
	}{
		"all":                           {kv.Range{}, []string{"a", "ab", "abc", "b", "c"}},
		"newest first":                  {kv.Range{Reverse: true}, []string{"c", "b", "abc", "ab", "a"}},
		"prefix":                        {kv.Range{Prefix: []byte("ab")}, []string{"ab", "abc"}},
		"after a key":                   {kv.Range{After: []byte("ab")}, []string{"abc", "b", "c"}},
		"after a key that is gone":      {kv.Range{After: []byte("aa")}, []string{"ab", "abc", "b", "c"}},
		"after the last":                {kv.Range{After: []byte("c")}, nil},
		"before a key":                  {kv.Range{After: []byte("b"), Reverse: true}, []string{"abc", "ab", "a"}},
		"before a key that is gone":     {kv.Range{After: []byte("bb"), Reverse: true}, []string{"b", "abc", "ab", "a"}},
		"before one behind all":         {kv.Range{After: []byte("z"), Reverse: true}, []string{"c", "b", "abc", "ab", "a"}},
		"before the first":              {kv.Range{After: []byte("a"), Reverse: true}, nil},
		"prefix, after one of its keys": {kv.Range{Prefix: []byte("ab"), After: []byte("ab")}, []string{"abc"}},
		"prefix that nothing has":       {kv.Range{Prefix: []byte("x")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, kv.View(db, "file", func(tx *kv.Tx) error {
				require.Equal(t, c.want, scan(t, tx, c.r))
				return nil
			}))
		})
	}
}

// bbolt's cursor skips records when something is deleted under it.
func TestScanWhileItsBodyWrites(t *testing.T) {
	var all []string
	for i := range 300 { // several pages
		all = append(all, fmt.Sprintf("key-%04d", i))
	}
	for _, reverse := range []bool{false, true} {
		t.Run(fmt.Sprintf("reverse %v", reverse), func(t *testing.T) {
			db := open(t)
			write(t, db, func(tx *kv.Tx) error { return fill(tx, all...) })
			var seen []string
			write(t, db, func(tx *kv.Tx) error {
				for e, err := range tx.Scan(kv.Names, kv.Range{Reverse: reverse}) {
					if err != nil {
						return err
					}
					seen = append(seen, string(e.Key))
					if err := tx.Delete(kv.Names, e.Key); err != nil {
						return err
					}
				}
				return nil
			})
			if reverse {
				slices.Reverse(seen)
			}
			require.Equal(t, all, seen, "each record once, though each was deleted")
			require.NoError(t, kv.View(db, "file", func(tx *kv.Tx) error {
				n, err := tx.Count(kv.Names)
				require.Zero(t, n)
				return err
			}))
		})
	}
}

func TestUndoLeavesTheOthersOfATransaction(t *testing.T) {
	db := open(t)
	write(t, db, func(tx *kv.Tx) error {
		if _, err := tx.NextSequence(kv.Events); err != nil {
			return err
		}
		return fill(tx, "changed", "deleted")
	})
	require.NoError(t, db.Update(func(btx *bbolt.Tx) error {
		kept := kv.Writing(btx, "file", kv.Now())
		require.NoError(t, fill(kept, "kept"))
		undone := kv.Writing(btx, "file", kv.Now())
		require.NoError(t, undone.Put(kv.Names, []byte("changed"), "other"))
		require.NoError(t, undone.Put(kv.Names, []byte("changed"), "twice"))
		require.NoError(t, undone.Put(kv.Names, []byte("kept"), "other"))
		require.NoError(t, undone.Delete(kv.Names, []byte("deleted")))
		require.NoError(t, undone.Delete(kv.Names, []byte("never there")))
		require.NoError(t, fill(undone, "new"))
		seq, err := undone.NextSequence(kv.Events)
		require.NoError(t, err)
		require.EqualValues(t, 2, seq)
		require.NoError(t, undone.SetSequence(kv.Events, 99))
		keys, bytes := undone.Written()
		require.EqualValues(t, 6, keys, "five keys and a sequence, each once")
		require.Positive(t, bytes)
		undone.End()
		return undone.Undo(btx)
	}))
	require.NoError(t, kv.View(db, "file", func(tx *kv.Tx) error {
		require.Equal(t, []string{"changed", "deleted", "kept"}, scan(t, tx, kv.Range{}))
		for _, k := range []string{"changed", "deleted", "kept"} {
			var v string
			require.NoError(t, tx.Get(kv.Names, []byte(k), &v))
			require.Equal(t, k, v)
		}
		bb, err := tx.Bucket(kv.Events)
		require.EqualValues(t, 1, bb.Sequence(), "the number was never taken")
		return err
	}))
}

func TestWhatATransactionMayNot(t *testing.T) {
	db := open(t)
	require.NoError(t, kv.View(db, "file", func(tx *kv.Tx) error {
		require.False(t, tx.Writable())
		require.ErrorIs(t, tx.Put(kv.Names, []byte("k"), 1), kv.ErrReadOnly)
		require.ErrorIs(t, tx.Delete(kv.Names, []byte("k")), kv.ErrReadOnly)
		_, err := tx.NextSequence(kv.Events)
		require.ErrorIs(t, err, kv.ErrReadOnly)
		require.ErrorIs(t, tx.SetSequence(kv.Events, 1), kv.ErrReadOnly)
		require.ErrorIs(t, tx.Get(kv.Names, []byte("k"), new(int)), kv.ErrNotFound)
		require.NoError(t, kv.IgnoreMissing(tx.Get(kv.Names, []byte("k"), new(int))))
		return nil
	}))
	var late *kv.Tx
	write(t, db, func(tx *kv.Tx) error {
		late = tx
		require.ErrorIs(t, tx.Put(kv.Names, nil, 1), kv.ErrInvalid, "bbolt takes no empty key")
		require.ErrorIs(t, tx.Put(kv.Names, make([]byte, bbolt.MaxKeySize+1), 1), kv.ErrInvalid)
		require.ErrorIs(t, tx.Put(kv.Names, []byte("k"), func() {}), kv.ErrInvalid, "no JSON")
		return fill(tx, "k")
	})
	require.ErrorIs(t, late.Put(kv.Names, []byte("k"), 1), kv.ErrTxDone)
	require.ErrorIs(t, late.Get(kv.Names, []byte("k"), new(string)), kv.ErrTxDone)
	for _, err := range late.Scan(kv.Names, kv.Range{}) {
		require.ErrorIs(t, err, kv.ErrTxDone)
	}
}

// A transaction that is used after its end, from the body of its own scan.
func TestScanEndsWithItsTransaction(t *testing.T) {
	db := open(t)
	write(t, db, func(tx *kv.Tx) error { return fill(tx, "a", "b") })
	var keys []string
	var last error
	require.NoError(t, db.View(func(btx *bbolt.Tx) error {
		tx := kv.Reading(btx, "file")
		for e, err := range tx.Scan(kv.Names, kv.Range{}) {
			if last = err; err == nil {
				keys = append(keys, string(e.Key))
			}
			tx.End()
		}
		return nil
	}))
	require.Equal(t, []string{"a"}, keys)
	require.ErrorIs(t, last, kv.ErrTxDone)
}

// Every single flipped bit of a value, and a value that is moved to another place.
func TestEnvelopeRefusesWhatWasNotWrittenThere(t *testing.T) {
	db := open(t)
	write(t, db, func(tx *kv.Tx) error { return fill(tx, "name") })
	var value []byte
	require.NoError(t, db.View(func(btx *bbolt.Tx) error {
		value = slices.Clone(btx.Bucket([]byte(kv.Names)).Get([]byte("name")))
		return nil
	}))
	payload, err := kv.Unseal(kv.Names, []byte("name"), value)
	require.NoError(t, err)
	require.Equal(t, `"name"`, string(payload))
	for bit := range 8 * len(value) {
		flipped := slices.Clone(value)
		flipped[bit/8] ^= 1 << (bit % 8)
		_, err := kv.Unseal(kv.Names, []byte("name"), flipped)
		require.Error(t, err, "bit %d", bit)
	}
	for n := range len(value) {
		_, err := kv.Unseal(kv.Names, []byte("name"), value[:n])
		require.Error(t, err, "%d bytes", n)
	}
	_, err = kv.Unseal(kv.Jobs, []byte("name"), value)
	require.Error(t, err, "in another bucket")
	_, err = kv.Unseal(kv.Names, []byte("nam"), value)
	require.Error(t, err, "under another key")
}

func TestDamagedRecordIsNamed(t *testing.T) {
	db := open(t)
	key := kv.BE16(8080)
	require.NoError(t, db.Update(func(btx *bbolt.Tx) error {
		return btx.Bucket([]byte(kv.Leases)).Put(key, []byte("not an envelope"))
	}))
	require.NoError(t, kv.View(db, "/x/hive.db", func(tx *kv.Tx) error {
		var corrupt *kv.CorruptError
		require.ErrorAs(t, tx.Get(kv.Leases, key, new(int)), &corrupt)
		require.Equal(t, "state file /x/hive.db is damaged, bucket leases, key 8080: unknown record format", corrupt.Error())
		for _, err := range kv.All[int](tx, kv.Leases, kv.Range{}) {
			require.ErrorAs(t, err, &corrupt)
		}
		has, err := tx.Has(kv.Leases, key)
		require.True(t, has, "it is there, whatever it holds")
		return err
	}))
	// Of another type than its bucket's: whole, and damaged all the same.
	write(t, db, func(tx *kv.Tx) error { return tx.Put(kv.Leases, key, "text") })
	require.NoError(t, kv.View(db, "f", func(tx *kv.Tx) error {
		require.ErrorAs(t, tx.Get(kv.Leases, key, new(int)), new(*kv.CorruptError))
		return nil
	}))
	require.NoError(t, db.Update(func(btx *bbolt.Tx) error { return btx.DeleteBucket([]byte(kv.Jobs)) }))
	require.NoError(t, kv.View(db, "f", func(tx *kv.Tx) error {
		_, err := tx.Count(kv.Jobs)
		require.EqualError(t, err, "state file f is damaged, bucket jobs: the bucket is missing")
		return nil
	}))
}

func TestViewAndItsPanics(t *testing.T) {
	db := open(t)
	cause := errors.New("the caller's")
	require.ErrorIs(t, kv.View(db, "f", func(*kv.Tx) error { return cause }), cause)
	require.PanicsWithValue(t, "the caller's", func() {
		_ = kv.View(db, "f", func(*kv.Tx) error { panic("the caller's") })
	})
	// As the runtime panics when a page of the mapped file cannot be read.
	err := kv.View(db, "f", func(*kv.Tx) error { panic(fault{}) })
	require.ErrorAs(t, err, new(*kv.CorruptError))
	require.ErrorAs(t, kv.Protect("f", func() error { panic("assertion of bbolt") }), new(*kv.CorruptError))
	require.ErrorIs(t, kv.Protect("f", func() error { return cause }), cause)
}

type fault struct{}

func (fault) Error() string { return "fault" }
func (fault) Addr() uintptr { return 1 }

func TestKeysSortAndCanBeRead(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	require.Negative(t, slices.Compare(kv.BE16(80), kv.BE16(8080)))
	require.Negative(t, slices.Compare(kv.TimeKey(at), kv.TimeKey(at.Add(time.Millisecond))))
	require.Equal(t, kv.BE64(0), kv.TimeKey(time.Unix(-1, 0)), "nothing is before 1970")
	pid, port, ok := kv.SplitPIDKey(kv.PIDKey(4711, 8080))
	require.True(t, ok)
	require.Equal(t, []int{4711, 8080}, []int{pid, int(port)})
	_, _, ok = kv.SplitPIDKey([]byte("short"))
	require.False(t, ok)
	require.Equal(t, "lease-1", kv.EndedLeaseID(kv.EndedKey(at, "lease-1", 8080)))
	require.Empty(t, kv.EndedLeaseID([]byte("short")))
	require.Equal(t, kv.BE64(7), kv.IndexSeq(kv.IndexKey("job", 7)))
	require.NotContains(t, string(kv.IndexKey("a-1", 1)), string(kv.IndexPrefix("a")), "a-1 is not among the entries of a")

	for want, k := range map[string]struct {
		bucket kv.Bucket
		key    []byte
	}{
		"8080":                                  {kv.Leases, kv.BE16(8080)},
		"4711/8080":                             {kv.PIDs, kv.PIDKey(4711, 8080)},
		"42":                                    {kv.Events, kv.BE64(42)},
		"2026-01-02T03:04:05.678Z/lease-1/8080": {kv.Ended, kv.EndedKey(at, "lease-1", 8080)},
		"job-1/42":                              {kv.ByJob, kv.IndexKey("job-1", 42)},
		"cpu-8080-abcdef":                       {kv.Workers, []byte("cpu-8080-abcdef")},
		"ff00":                                  {kv.Workers, []byte{0xff, 0}},
		"610a":                                  {kv.Names, []byte("a\n")},
		"010203":                                {kv.Leases, []byte{1, 2, 3}},
	} {
		require.Equal(t, want, kv.KeyName(k.bucket, k.key))
	}
	require.Len(t, kv.BE64(1), binary.Size(uint64(0)))
}

// Deletes leave empty pages until the commit.
func TestGoingBackOverEmptyPages(t *testing.T) {
	var all []string
	for i := range 400 {
		all = append(all, fmt.Sprintf("key-%04d", i))
	}
	for name, kept := range map[string][]string{
		"nothing left":          nil,
		"only the first":        all[:1],
		"only the last":         all[399:],
		"first and last":        {all[0], all[399]},
		"some in the middle":    all[200:203],
		"the lower and highest": append(slices.Clone(all[:20]), all[399]),
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			write(t, db, func(tx *kv.Tx) error { return fill(tx, all...) })
			write(t, db, func(tx *kv.Tx) error {
				for _, k := range all {
					if !slices.Contains(kept, k) {
						require.NoError(t, tx.Delete(kv.Names, []byte(k)))
					}
				}
				backwards := slices.Clone(kept)
				slices.Reverse(backwards)
				require.Equal(t, backwards, scan(t, tx, kv.Range{Reverse: true}))
				require.Equal(t, kept, scan(t, tx, kv.Range{}))
				last, err := tx.LastKey(kv.Names)
				require.NoError(t, err)
				if len(kept) == 0 {
					require.Nil(t, last)
				} else {
					require.Equal(t, kept[len(kept)-1], string(last))
				}
				for i, k := range all {
					below, err := tx.KeyBefore(kv.Names, []byte(k))
					require.NoError(t, err)
					want := ""
					for _, other := range kept {
						if other < k {
							want = other
						}
					}
					require.Equal(t, want, string(below), "before key %d", i)
				}
				return nil
			})
		})
	}
}
