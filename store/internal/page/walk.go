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
	return w.page("", id, source, func(b kv.Bucket, value []byte) error { return w.bucket(b, value, source) })
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
	_, count := header(page)
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > uint64(len(page)) {
			w.damage(b, fmt.Sprintf("page %d: it has no room for %d elements", id, count))
			break
		}
		list = append(list, binary.NativeEndian.Uint64(page[at+8:]))
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
	_, count := header(page)
	if most := maxElements(page); count > most {
		w.damage(b, fmt.Sprintf("a page has no room for %d elements", count))
		count = most
	}
	for i := range count {
		key, value, isBucket, err := leafElement(page, i)
		if err != nil {
			w.damage(b, fmt.Sprintf("element %d of a page: %v", i, err))
			// The others may be whole.
			continue
		}
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

// maxElements is how many elements a leaf can have: bbolt writes the first key right behind
// the last element, and the other keys in their order. What a greater count leads to may be
// records of another time. Two elements are asked, since one may be damaged.
func maxElements(page []byte) (most uint64) {
	room := (uint64(len(page)) - pageHeader) / elementSize
	for i := range min(room, 2) {
		pos := uint64(binary.NativeEndian.Uint32(page[pageHeader+i*elementSize+4:]))
		most = max(most, i+pos/elementSize)
	}
	return min(room, most)
}

// leafElement returns the i-th element of a leaf.
func leafElement(page []byte, i uint64) (key, value []byte, isBucket bool, err error) {
	at := pageHeader + i*elementSize
	if at+elementSize > uint64(len(page)) {
		return nil, nil, false, errors.New("there is no room for it")
	}
	b, ne := page[at:], binary.NativeEndian
	pos, ksize, vsize := uint64(ne.Uint32(b[4:])), uint64(ne.Uint32(b[8:])), uint64(ne.Uint32(b[12:]))
	if key, err = part(b, pos, ksize); err != nil {
		return nil, nil, false, err
	}
	if value, err = part(b, pos+ksize, vsize); err != nil {
		return nil, nil, false, err
	}
	return key, value, ne.Uint32(b)&bucketElement != 0, nil
}

// Unreached reads every leaf that was not read before. What it finds is current if the page
// is in use, which the list of free pages says if it can be read.
func (w *Walker) Unreached() error {
	free, known := w.freePages()
	for id := uint64(firstPage); id < w.pages; id++ {
		if w.seen[id] {
			continue
		}
		source := FromFreed
		if known && !free[id] {
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
	_, count := header(page)
	for i := range min(count, maxElements(page)) {
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

// freePages reads the list of free pages of the newest transaction.
func (w *Walker) freePages() (free []bool, known bool) {
	meta, err := newestMeta(w.file, w.size)
	if err != nil || meta.freelist == noFreelist {
		return nil, false
	}
	x := &examiner{file: w.file, meta: meta, used: make([]bool, meta.pages)}
	if x.freelist() != nil {
		return nil, false
	}
	free = make([]bool, w.pages)
	copy(free, x.used) // with the pages of the list itself, which are no leaves
	for id := meta.pages; id < w.pages; id++ {
		free[id] = true // never used, or by a transaction that did not write its meta page
	}
	return free, true
}
