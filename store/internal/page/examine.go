package page

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt's file format, version 2, in native byte order.
const (
	pageHeader    = 16 // id u64, flags u16, count u16, overflow u32
	elementSize   = 16 // leaf: flags, pos, ksize, vsize u32; branch: pos, ksize u32, page u64
	bucketHeader  = 16 // root page u64, sequence u64
	metaSize      = 64
	flagBranch    = 0x01
	flagLeaf      = 0x02
	flagMeta      = 0x04
	flagFreelist  = 0x10
	bucketElement = 0x01
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	noFreelist    = ^uint64(0)
	firstPage     = 2 // after the two meta pages
)

// metaPage is the root of a transaction.
type metaPage struct {
	pageSize uint64
	root     uint64
	freelist uint64
	pages    uint64 // high-water mark
	txid     uint64
}

// examiner accounts for every page once.
type examiner struct {
	file io.ReaderAt
	meta metaPage
	used []bool
}

// Examine reads the whole file, which must not be written meanwhile, and says what is wrong
// with its structure. An *fs.PathError is one of reading, which is no damage: it may pass.
// A file that passes has no page outside of itself, none used twice, none lost and none
// that contains itself, so bbolt can read it safely; and a search by key finds every record
// that is in it.
func Examine(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return errors.New("it is empty") // bbolt would take it for a new one
	}
	meta, err := newestMeta(f, info.Size())
	if err != nil {
		return err
	}
	x := &examiner{file: f, meta: meta, used: make([]bool, meta.pages)}
	return x.run()
}

// OneMeta reports whether only one of the two meta pages is as bbolt writes it. The file is
// read by that one, and the next commits write the other anew; but bbolt's own Check panics.
func OneMeta(f io.ReaderAt, size int64) bool {
	newest, err := newestMeta(f, size)
	if err != nil {
		return false
	}
	for id := range uint64(2) {
		at := int64(id * newest.pageSize)
		head := make([]byte, pageHeader)
		_, err := f.ReadAt(head, at)
		if err == nil {
			_, err = readMetaPage(f, at)
		}
		if err != nil || binary.NativeEndian.Uint64(head) != id || binary.NativeEndian.Uint16(head[8:]) != flagMeta {
			return true
		}
	}
	return false
}

// Transaction is the number of the newest transaction in a file of that size, by its two
// meta pages alone.
func Transaction(f io.ReaderAt, size int64) (uint64, error) {
	meta, err := newestMeta(f, size)
	return meta.txid, err
}

// newestMeta picks the meta page as bbolt does. One bad meta page is normal
// after a crash in the middle of a commit. Of a file that is cut off it is
// returned with the error.
func newestMeta(f io.ReaderAt, size int64) (metaPage, error) {
	first, err := readMetaPage(f, 0)
	if err != nil {
		first = metaPage{}
	}
	var second metaPage
	for at := int64(1024); at <= 1<<24; at <<= 1 { // page sizes of bbolt
		m, err := readMetaPage(f, at)
		if err == nil && m.pageSize == uint64(at) {
			second = m
			break
		}
	}
	newest := first
	// bbolt writes them in turn; the higher number is the newer transaction.
	if second.txid > first.txid || first.pageSize == 0 {
		newest = second
	}
	switch {
	case newest.pageSize == 0:
		return metaPage{}, errors.New("neither meta page is valid")
	case newest.pages < firstPage || newest.pages > uint64(size)/newest.pageSize:
		return newest, fmt.Errorf("the file is cut off: %d bytes, %d pages of %d bytes expected",
			size, newest.pages, newest.pageSize)
	}
	return newest, nil
}

func readMetaPage(f io.ReaderAt, at int64) (metaPage, error) {
	b := make([]byte, metaSize)
	if _, err := f.ReadAt(b, at+pageHeader); err != nil {
		return metaPage{}, err
	}
	ne := binary.NativeEndian
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8]) // a hash takes everything
	if ne.Uint32(b) != metaMagic || ne.Uint32(b[4:]) != metaVersion || ne.Uint64(b[metaSize-8:]) != sum.Sum64() {
		return metaPage{}, errors.New("not a meta page")
	}
	return metaPage{
		pageSize: uint64(ne.Uint32(b[8:])), root: ne.Uint64(b[16:]),
		freelist: ne.Uint64(b[32:]), pages: ne.Uint64(b[40:]), txid: ne.Uint64(b[48:]),
	}, nil
}

func (x *examiner) run() error {
	if err := x.freelist(); err != nil {
		return err
	}
	todo := []child{{page: x.meta.root}}
	for len(todo) > 0 {
		// No recursion: a damaged tree may be of any depth.
		next := todo[len(todo)-1]
		children, err := x.treePage(next)
		if err != nil {
			return err
		}
		todo = append(todo[:len(todo)-1], children...)
	}
	if x.meta.freelist == noFreelist {
		return nil
	}
	// Neither: what led to it is damaged.
	for id := uint64(firstPage); id < x.meta.pages; id++ {
		if !x.used[id] {
			return fmt.Errorf("page %d is neither used nor free", id)
		}
	}
	return nil
}

// take records a page as accounted for.
func (x *examiner) take(id uint64) error {
	if id < firstPage || id >= x.meta.pages {
		return fmt.Errorf("page %d is outside of the file", id)
	}
	if x.used[id] {
		return fmt.Errorf("page %d is used twice", id)
	}
	x.used[id] = true
	return nil
}

// page reads a page with its overflow and takes all of it.
func (x *examiner) page(id uint64) ([]byte, error) {
	if err := x.take(id); err != nil {
		return nil, err
	}
	size := int64(x.meta.pageSize)
	b := make([]byte, size)
	if _, err := x.file.ReadAt(b, int64(id)*size); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	if got := binary.NativeEndian.Uint64(b); got != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	overflow := uint64(binary.NativeEndian.Uint32(b[12:]))
	// Taken before they are read: a damaged number may lead beyond the file.
	for i := uint64(1); i <= overflow; i++ {
		if err := x.take(id + i); err != nil {
			return nil, err
		}
	}
	if overflow == 0 {
		return b, nil
	}
	b = make([]byte, (int64(overflow)+1)*size)
	if _, err := x.file.ReadAt(b, int64(id)*size); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return b, nil
}

func (x *examiner) freelist() error {
	id := x.meta.freelist
	if id == noFreelist {
		return nil
	}
	b, err := x.page(id)
	if err != nil {
		return err
	}
	flags, count := header(b)
	if flags != flagFreelist {
		return fmt.Errorf("page %d is not the list of free pages", id)
	}
	list := b[pageHeader:]
	if count == 0xffff { // then the count is the first number of the list
		count = binary.NativeEndian.Uint64(list)
		list = list[8:]
	}
	// Before the loop: a damaged count may be anything.
	if count > uint64(len(list))/8 {
		return fmt.Errorf("page %d lists %d free pages and has no room for them", id, count)
	}
	for i := range count {
		if err := x.take(binary.NativeEndian.Uint64(list[8*i:])); err != nil {
			return fmt.Errorf("list of free pages: %w", err)
		}
	}
	return nil
}

// FreeCount is how many pages are listed as free; 0 if that cannot be read.
func FreeCount(f io.ReaderAt, size int64) int64 {
	meta, err := newestMeta(f, size)
	if err != nil || meta.freelist == noFreelist {
		return 0
	}
	// By the examiner, which trusts no number.
	x := &examiner{file: f, meta: meta, used: make([]bool, meta.pages)}
	list, err := x.page(meta.freelist)
	if err != nil {
		return 0
	}
	_, count := header(list)
	if count == 0xffff {
		count = binary.NativeEndian.Uint64(list[pageHeader:])
	}
	return int64(min(count, meta.pages))
}

// child is a page that another leads to, and the keys that a search looks for there.
type child struct {
	page uint64
	from []byte // the first of them; nil: all from the beginning
	to   []byte // the first behind them; nil: all to the end
}

// treePage checks a page of a tree and returns the pages below it.
func (x *examiner) treePage(c child) ([]child, error) {
	b, err := x.page(c.page)
	if err != nil {
		return nil, err
	}
	children, err := elements(b, c.from, c.to)
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", c.page, err)
	}
	return children, nil
}
