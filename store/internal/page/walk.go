package page

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"rbeehive/store/internal/kv"
)

// Source says how far a record that was read from a damaged file can be relied
// on. A lower one goes before a higher one.
type Source int

// The sources of a record.
const (
	// FromTree: the newest transaction leads to it.
	FromTree Source = iota
	// FromLost: on a page that nothing refers to and that is not free: what referred to it
	// is damaged.
	FromLost
	// FromFreed: on a page that is free, or may be: it may have been changed or removed
	// since.
	FromFreed
	// FromBackup: in a backup.
	FromBackup
)

// String returns the source for a person.
func (s Source) String() string {
	return [...]string{"the file", "a lost page", "a freed page", "the backup"}[s]
}

// Record is one key and value as they stand on a page; the value is sealed.
type Record struct {
	Bucket kv.Bucket
	Key    []byte
	Value  []byte
	Source Source
}

// Walker reads a file as far as it can be read: unlike the examiner it continues after
// damage, and it never trusts a number. Each page is read once, so it terminates whatever
// is in the file.
type Walker struct {
	file     io.ReaderAt
	size     int64 // of the file
	pageSize uint64
	pages    uint64 // of which there can be any
	seen     []bool
	free     []bool // by the list of free pages, if that can be read
	record   func(Record) error
	damage   func(b kv.Bucket, reason string)
	sequence uint64 // the highest that the bucket of events had
}

// Size is the length of the file, and Sequence the highest number that its bucket of events
// is known to have given out.
func (w *Walker) Size() int64 { return w.size }

// Sequence: see Size.
func (w *Walker) Sequence() uint64 { return w.sequence }

// NewWalker returns a walker of a file. record gets each record and ends the walk with an
// error; damage gets what cannot be read, with the bucket if it is known.
func NewWalker(file *os.File, record func(Record) error, damage func(kv.Bucket, string)) (*Walker, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return &Walker{file: file, size: info.Size(), record: record, damage: damage}, nil
}

// ErrNoMeta says that nothing can be located.
var ErrNoMeta = errors.New("neither meta page is valid")

// Tree reads what the newest transaction leads to. ErrNoMeta: nothing leads anywhere.
func (w *Walker) Tree() error {
	meta, err := newestMeta(w.file, w.size)
	if meta.pageSize == 0 {
		w.measure(0)
		return ErrNoMeta
	}
	if err != nil { // it is cut off: what is there can be read all the same
		w.damage("", err.Error())
	}
	w.measure(meta.pageSize)
	w.free = w.freePages()
	return w.root(meta.root, FromTree)
}

// measure sets the size of pages; 0: it has to be guessed.
func (w *Walker) measure(pageSize uint64) {
	if pageSize == 0 {
		pageSize = w.guessPageSize()
	}
	w.pageSize = pageSize
	w.pages = uint64(w.size) / pageSize
	w.seen = make([]bool, w.pages)
}

// guessPageSize takes the size with which most pages say which page they are.
func (w *Walker) guessPageSize() uint64 {
	best, most := uint64(os.Getpagesize()), 0
	for size := uint64(1024); size <= 1<<16; size <<= 1 {
		n := 0
		// Every page begins with its own number.
		for id := uint64(firstPage); id < uint64(w.size)/size; id++ {
			var b [8]byte
			if _, err := w.file.ReadAt(b[:], int64(id*size)); err == nil && binary.NativeEndian.Uint64(b[:]) == id {
				n++
			}
		}
		if n > most {
			best, most = size, n
		}
	}
	return best
}

// root reads the page in which every bucket has its place.
func (w *Walker) root(id uint64, source Source) error {
	found := map[kv.Bucket]bool{}
	err := w.page("", id, source, func(b kv.Bucket, value []byte) error {
		found[b] = true
		return w.bucket(b, value, source)
	})
	if err != nil || len(found) == 0 { // a new file, or nothing that could be called whole
		return err
	}
	for _, b := range kv.Buckets() {
		// What it had may be on pages that nothing leads to.
		if !found[b] {
			w.damage(b, "the bucket is missing")
		}
	}
	return nil
}

// bucket reads a bucket, which is on pages of its own or inside its value.
func (w *Walker) bucket(b kv.Bucket, value []byte, source Source) error {
	if len(value) < bucketHeader {
		w.damage(b, "it is too short for a bucket")
		return nil
	}
	if b == kv.Events {
		w.sequence = max(w.sequence, binary.NativeEndian.Uint64(value[8:]))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return w.page(b, root, source, nil)
	}
	return w.leaf(b, value[bucketHeader:], source, nil)
}

// page reads a page of a tree and all that is below it. nested is called for
// buckets inside of it.
func (w *Walker) page(b kv.Bucket, id uint64, source Source, nested func(kv.Bucket, []byte) error) error {
	todo := []uint64{id}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		page, err := w.read(id)
		if err != nil {
			w.damage(b, fmt.Sprintf("page %d: %v", id, err))
			continue
		}
		// It may be one of the past, which a damaged number leads to.
		if w.free != nil && w.free[id] {
			w.damage(b, fmt.Sprintf("page %d: it is used, and listed as free", id))
		}
		flags, count := header(page)
		switch flags {
		case flagLeaf:
			if err := w.leaf(b, page, source, nested); err != nil {
				return err
			}
		case flagBranch:
			if count == 0 {
				w.damage(b, fmt.Sprintf("page %d: it is a branch without children", id))
			}
			// No recursion: a damaged tree may be of any depth.
			todo = append(todo, w.children(b, id, page)...)
		default:
			w.damage(b, fmt.Sprintf("page %d: it is neither leaf nor branch (%#x)", id, flags))
		}
	}
	return nil
}

// children are the pages that a branch leads to, the first one last.
func (w *Walker) children(b kv.Bucket, id uint64, page []byte) (list []uint64) {
	count, damage := countElements(page)
	if damage != "" {
		w.damage(b, fmt.Sprintf("page %d: %s", id, damage))
	}
	for i := range count {
		list = append(list, binary.NativeEndian.Uint64(page[pageHeader+i*elementSize+8:]))
	}
	slices.Reverse(list)
	return list
}

// read returns a page with its overflow, as much of that as there can be. A page
// is returned once.
func (w *Walker) read(id uint64) ([]byte, error) {
	if id < firstPage || id >= w.pages {
		return nil, errors.New("it is outside of the file")
	}
	if w.seen[id] {
		return nil, errors.New("it is used twice")
	}
	// Even if it is bad: no page is read twice, so every walk ends.
	w.seen[id] = true
	head := make([]byte, pageHeader)
	if _, err := w.file.ReadAt(head, int64(id*w.pageSize)); err != nil {
		return nil, err
	}
	if got := binary.NativeEndian.Uint64(head); got != id {
		return nil, fmt.Errorf("it says that it is page %d", got)
	}
	overflow := w.overflow(id, uint64(binary.NativeEndian.Uint32(head[12:])))
	for i := range overflow {
		w.seen[id+1+i] = true
	}
	page := make([]byte, (overflow+1)*w.pageSize)
	if _, err := w.file.ReadAt(page, int64(id*w.pageSize)); err != nil {
		return nil, err
	}
	return page, nil
}

// overflow is how many pages after it belong to a page that claims that many. The number may
// be damaged: a page that says itself which one it is belongs to nobody else, and without
// that all pages to the end of the file would be lost with this one.
func (w *Walker) overflow(id, claimed uint64) uint64 {
	claimed = min(claimed, w.pages-id-1)
	for i := range claimed {
		var own [8]byte
		next := id + 1 + i
		if _, err := w.file.ReadAt(own[:], int64(next*w.pageSize)); err != nil || binary.NativeEndian.Uint64(own[:]) == next {
			return i
		}
	}
	return claimed
}

// leaf reads the elements of a leaf, each for itself.
func (w *Walker) leaf(b kv.Bucket, page []byte, source Source, nested func(kv.Bucket, []byte) error) error {
	if len(page) < pageHeader {
		w.damage(b, "it is too short for a page")
		return nil
	}
	count, damage := countElements(page)
	if damage != "" {
		w.damage(b, damage)
	}
	data := pageHeader + count*elementSize
	for i := range count {
		key, value, isBucket, err := leafElement(page, i)
		if err != nil {
			w.damage(b, fmt.Sprintf("element %d of a page: %v", i, err))
			// The others may be whole.
			continue
		}
		at := pageHeader + i*elementSize
		pos, ksize, vsize := extent(page, at, flagLeaf)
		// It may be another record, twice: then one is missing that has nothing wrong with it.
		if at+pos != data {
			w.damage(b, fmt.Sprintf("element %d of a page: its key is not where bbolt has written it", i))
		}
		data = at + pos + ksize + vsize
		switch {
		case isBucket && nested != nil:
			err = nested(kv.Bucket(key), value)
		case isBucket || b == "":
			w.damage(b, kv.KeyText(key)+" is misplaced")
		default:
			err = w.record(Record{Bucket: b, Key: key, Value: value, Source: source})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Unreached reads every leaf that was not read before. What it finds is current if the page
// is in use, which the list of free pages says if it can be read.
func (w *Walker) Unreached() error {
	for id := uint64(firstPage); id < w.pages; id++ {
		if w.seen[id] {
			continue
		}
		source := FromFreed
		if w.free != nil && !w.free[id] {
			source = FromLost
		}
		page, err := w.read(id)
		if err != nil {
			continue
		}
		if flags, _ := header(page); flags == flagLeaf {
			if err := w.orphanLeaf(page, source); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphanLeaf reads a leaf whose bucket is not known: the checksum of a record tells it.
func (w *Walker) orphanLeaf(page []byte, source Source) error {
	count, _ := countElements(page)
	for i := range count {
		key, value, isBucket, err := leafElement(page, i)
		switch {
		case err != nil:
			continue
		// A small bucket is inside its value, wherever the page belongs.
		case isBucket:
			err = w.inlineBucket(kv.Bucket(key), value, source)
		default:
			err = w.orphanRecord(key, value, source)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inlineBucket reads a bucket inside its value.
func (w *Walker) inlineBucket(b kv.Bucket, value []byte, source Source) error {
	if !slices.Contains(kv.Buckets(), b) || len(value) < bucketHeader {
		return nil
	}
	if b == kv.Events {
		w.sequence = max(w.sequence, binary.NativeEndian.Uint64(value[8:]))
	}
	if binary.NativeEndian.Uint64(value) != 0 || len(value) < bucketHeader+pageHeader {
		return nil
	}
	return w.orphanLeaf(value[bucketHeader:], source)
}

func (w *Walker) orphanRecord(key, value []byte, source Source) error {
	for _, b := range kv.Buckets() {
		// The checksum covers the bucket's name, so it fits in the right one only.
		if _, err := kv.Unseal(b, key, value); err == nil {
			return w.record(Record{Bucket: b, Key: key, Value: value, Source: source})
		}
	}
	return nil
}

// freePages reads the list of free pages of the newest transaction; nil: it cannot be read.
func (w *Walker) freePages() (free []bool) {
	meta, err := newestMeta(w.file, w.size)
	if err != nil || meta.freelist == noFreelist {
		return nil
	}
	x := &examiner{file: w.file, meta: meta, used: make([]bool, meta.pages)}
	if x.freelist() != nil {
		return nil
	}
	free = make([]bool, w.pages)
	copy(free, x.used) // with the pages of the list itself, which are no leaves
	for id := meta.pages; id < w.pages; id++ {
		free[id] = true // never used, or by a transaction that did not write its meta page
	}
	return free
}
