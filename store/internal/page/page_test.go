package page_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"rbeehive/store/internal/kv"
	"rbeehive/store/internal/page"
)

const pageSize = 4096

// makeFile writes a file with buckets of one leaf, of several levels, and inside their
// values, and with free pages. It returns what is in it.
func makeFile(t *testing.T) (path string, records map[string]string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize, NoSync: true})
	require.NoError(t, err)
	require.NoError(t, db.Update(func(btx *bbolt.Tx) error {
		for _, b := range kv.Buckets() {
			if _, err := btx.CreateBucket([]byte(b)); err != nil {
				return err
			}
		}
		return nil
	}))
	records = map[string]string{}
	put := func(tx *kv.Tx, b kv.Bucket, key []byte, v string) {
		require.NoError(t, tx.Put(b, key, v))
		records[string(b)+"/"+kv.KeyName(b, key)] = v
	}
	for round := range 3 { // so that there are free pages
		require.NoError(t, kv.Update(db, path, func(tx *kv.Tx) error {
			for i := range 500 {
				put(tx, kv.Jobs, fmt.Appendf(nil, "job-%04d", i), fmt.Sprintf("round %d of %d %s", round, i, bytes.Repeat([]byte("x"), 100)))
			}
			put(tx, kv.Names, []byte("small"), "inside the value of its bucket")
			put(tx, kv.Workers, []byte("large"), string(bytes.Repeat([]byte("y"), 3*pageSize)))
			return tx.SetSequence(kv.Events, 4711)
		}))
	}
	require.NoError(t, db.Close())
	return path, records
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// walked is what a walk has found, by source.
type walked struct {
	records map[page.Source]map[string]string
	damage  []string
	noMeta  bool
	seq     uint64
}

func walk(t *testing.T, f *os.File) walked {
	t.Helper()
	found := walked{records: map[page.Source]map[string]string{}}
	w, err := page.NewWalker(f, func(r page.Record) error {
		payload, err := kv.Unseal(r.Bucket, r.Key, r.Value)
		if err != nil {
			found.damage = append(found.damage, fmt.Sprintf("%s: %v", r.Bucket, err))
			return nil
		}
		if found.records[r.Source] == nil {
			found.records[r.Source] = map[string]string{}
		}
		found.records[r.Source][string(r.Bucket)+"/"+kv.KeyName(r.Bucket, r.Key)] = string(bytes.Trim(payload, `"`))
		return nil
	}, func(b kv.Bucket, reason string) {
		found.damage = append(found.damage, fmt.Sprintf("%s: %s", b, reason))
	})
	require.NoError(t, err)
	if err = w.Tree(); err != nil {
		require.ErrorIs(t, err, page.ErrNoMeta)
		found.noMeta = true
	}
	require.NoError(t, w.Unreached())
	found.seq = w.Sequence()
	return found
}

func TestWholeFile(t *testing.T) {
	path, records := makeFile(t)
	f := open(t, path)
	require.NoError(t, page.Examine(f))
	found := walk(t, f)
	require.Empty(t, found.damage)
	require.Equal(t, records, found.records[page.FromTree])
	require.Empty(t, found.records[page.FromLost], "nothing is lost in a whole file")
	require.NotEmpty(t, found.records[page.FromFreed], "what earlier transactions have left")
	require.EqualValues(t, 4711, found.seq)
	info, err := f.Stat()
	require.NoError(t, err)
	require.Positive(t, page.FreeCount(f, info.Size()))

	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(btx *bbolt.Tx) error {
		n, err := page.Transaction(f, info.Size())
		require.EqualValues(t, btx.ID(), n)
		return err
	}))
}

// To bbolt it would be a new one.
func TestAnEmptyFileIsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.EqualError(t, page.Examine(open(t, path)), "it is empty")
}

// pages calls each for every page of the file with its kind.
func pages(t *testing.T, f *os.File, each func(id int64, flags uint16)) {
	t.Helper()
	info, err := f.Stat()
	require.NoError(t, err)
	for id := int64(2); id < info.Size()/pageSize; id++ {
		var head [16]byte
		_, err := f.ReadAt(head[:], id*pageSize)
		require.NoError(t, err)
		if binary.NativeEndian.Uint64(head[:]) == uint64(id) {
			each(id, binary.NativeEndian.Uint16(head[8:]))
		}
	}
}

// Each page zeroed, each number in its header and first element made absurd: what bbolt
// would follow out of the file, or for ever, is refused, and a walk ends.
func TestDamagedPages(t *testing.T) {
	path, records := makeFile(t)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	f := open(t, path)
	tried, refused := 0, 0
	try := func(at int64, damage []byte) {
		defer func() {
			_, err := f.WriteAt(whole[at:at+int64(len(damage))], at)
			require.NoError(t, err)
		}()
		_, err := f.WriteAt(damage, at)
		require.NoError(t, err)
		tried++
		if page.Examine(f) != nil {
			refused++
		}
		found := walk(t, f)
		for key, v := range found.records[page.FromTree] {
			require.Equal(t, records[key], v, "a record that is read from the tree is the right one: page %d offset %d %x", at/pageSize, at%pageSize, damage[:min(8, len(damage))])
		}
	}
	used := 0
	pages(t, f, func(id int64, flags uint16) {
		at := id * pageSize
		try(at, make([]byte, pageSize))
		if flags != 0x01 && flags != 0x02 {
			return
		}
		used++
		for _, offset := range []int64{0, 8, 10, 12, 16, 20, 24, 28} {
			try(at+offset, []byte{0xff, 0xff, 0xff, 0xff})
		}
		// A page that is its own child.
		own := make([]byte, 8)
		binary.NativeEndian.PutUint64(own, uint64(id))
		try(at+24, own)
	})
	require.Positive(t, used)
	require.Greater(t, refused, tried/4, "of %d", tried)
	require.NoError(t, page.Examine(f), "all of it was put back")
}

func TestLostBranchCostsNoRecord(t *testing.T) {
	path, records := makeFile(t)
	f := open(t, path)
	// The branch that is in use: zeroing it loses the way to the leaves of a bucket.
	var zeroed int
	pages(t, f, func(id int64, flags uint16) {
		if flags != 0x01 || zeroed > 0 {
			return
		}
		old := make([]byte, pageSize)
		_, err := f.ReadAt(old, id*pageSize)
		require.NoError(t, err)
		_, err = f.WriteAt(make([]byte, pageSize), id*pageSize)
		require.NoError(t, err)
		if page.Examine(f) == nil { // it was a free page
			_, err = f.WriteAt(old, id*pageSize)
			require.NoError(t, err)
			return
		}
		zeroed++
	})
	require.Equal(t, 1, zeroed, "there is a branch")
	found := walk(t, f)
	require.NotEmpty(t, found.damage)
	all := map[string]string{}
	for _, source := range []page.Source{page.FromTree, page.FromLost} {
		for key, v := range found.records[source] {
			require.Equal(t, records[key], v)
			all[key] = v
		}
	}
	require.Equal(t, records, all, "the leaves are on pages that nothing refers to and that are not free")
}

func TestMetaPages(t *testing.T) {
	path, records := makeFile(t)
	f := open(t, path)
	_, err := f.WriteAt(make([]byte, pageSize), 0)
	require.NoError(t, err)
	require.NoError(t, page.Examine(f), "one bad meta page is what a crash leaves")
	_, err = f.WriteAt(make([]byte, pageSize), pageSize)
	require.NoError(t, err)
	require.EqualError(t, page.Examine(f), "neither meta page is valid")
	found := walk(t, f)
	require.True(t, found.noMeta)
	for key, v := range records {
		require.Contains(t, found.records[page.FromFreed], key)
		_ = v // of several versions any can be the last that was read
	}
	require.Zero(t, page.FreeCount(f, 1<<20))
}

func TestCutOffFile(t *testing.T) {
	path, _ := makeFile(t)
	require.NoError(t, os.Truncate(path, 10*pageSize))
	f := open(t, path)
	require.ErrorContains(t, page.Examine(f), "the file is cut off: 40960 bytes")
	found := walk(t, f)
	require.NotEmpty(t, found.damage)
	require.NotEmpty(t, found.records, "what is there can be read")
}

func TestErrorOfReadingIsNoDamage(t *testing.T) {
	path, _ := makeFile(t)
	f := open(t, path)
	require.NoError(t, f.Close())
	require.ErrorAs(t, page.Examine(f), new(*fs.PathError))
}

func FuzzWalk(f *testing.F) {
	f.Add([]byte{}, int64(0))
	f.Add([]byte{0xff, 0xff}, int64(2*pageSize+10))
	f.Add([]byte{3, 0, 0, 0}, int64(3*pageSize+24))
	f.Fuzz(func(t *testing.T, damage []byte, at int64) {
		path, _ := makeFile(t)
		file := open(t, path)
		info, err := file.Stat()
		require.NoError(t, err)
		if at < 0 || at >= info.Size() {
			t.Skip("outside of the file")
		}
		_, err = file.WriteAt(damage, at)
		require.NoError(t, err)
		walk(t, file)
		if page.Examine(file) == nil {
			// What passes can be read by bbolt without a panic.
			db, err := bbolt.Open(path, 0o600, &bbolt.Options{})
			require.NoError(t, err)
			require.NoError(t, db.Close())
		}
	})
}

// A damaged count of overflow pages must not take the pages behind it along, nor one of
// elements the records that stand there.
func TestDamagedCountsCostOnlyTheirPage(t *testing.T) {
	path, records := makeFile(t)
	f := open(t, path)
	tried := 0
	pages(t, f, func(id int64, flags uint16) {
		if flags != 0x02 {
			return
		}
		old := make([]byte, 16)
		_, err := f.ReadAt(old, id*pageSize)
		require.NoError(t, err)
		if binary.NativeEndian.Uint32(old[12:]) > 0 {
			return // its overflow is real
		}
		tried++
		for _, damage := range [][2]int64{{10, 2}, {12, 4}, {10, 6}} {
			_, err = f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}[:damage[1]], id*pageSize+damage[0])
			require.NoError(t, err)
			require.Equal(t, records, walk(t, f).records[page.FromTree], "page %d", id)
			_, err = f.WriteAt(old, id*pageSize)
			require.NoError(t, err)
		}
	})
	require.Greater(t, tried, 10)
}
