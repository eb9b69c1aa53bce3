package page

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

func header(b []byte) (flags uint16, count uint64) {
	return binary.NativeEndian.Uint16(b[8:]), uint64(binary.NativeEndian.Uint16(b[10:]))
}

// elements checks that all elements of a leaf or branch are inside of it, in order, and
// between the keys from and to, and returns the pages they lead to.
func elements(b, from, to []byte) ([]child, error) {
	flags, count := header(b)
	if flags != flagBranch && flags != flagLeaf {
		return nil, fmt.Errorf("it is neither leaf nor branch (%#x)", flags)
	}
	if flags == flagBranch && count == 0 {
		return nil, errors.New("it is a branch without children")
	}
	var children []child
	var last []byte
	// bbolt writes keys and values one behind the other, the first behind the last element:
	// another count would hide records that are there, and nothing else would show that.
	data := pageHeader + count*elementSize
	switch {
	case data > uint64(len(b)):
		return nil, fmt.Errorf("it has no room for %d elements", count)
	case count == 0 && len(bytes.TrimLeft(b[pageHeader:], "\x00")) > 0: // bbolt writes to pages of zeros
		return nil, errors.New("it has elements, and says that it has none")
	}
	for i := range count {
		e, err := readElement(b, pageHeader+i*elementSize, data, flags)
		switch {
		case err != nil:
			return nil, fmt.Errorf("element %d: %w", i, err)
		// Out of order, a search by key would miss records that are there.
		case i > 0 && bytes.Compare(last, e.key) >= 0:
			return nil, fmt.Errorf("element %d is out of order", i)
		// So it would where what leads here has another key.
		case from != nil && bytes.Compare(e.key, from) < 0, to != nil && bytes.Compare(e.key, to) >= 0:
			return nil, fmt.Errorf("element %d is not where it is looked for", i)
		}
		if flags == flagBranch && i > 0 {
			children[i-1].to = e.key
		}
		last, data = e.key, e.end
		children = append(children, e.children...)
	}
	if flags == flagBranch {
		children[count-1].to = to
	}
	return children, nil
}

// element is an entry of a leaf or branch.
type element struct {
	key      []byte
	end      uint64 // where its data ends
	children []child
}

// readElement checks the element at an offset of b, whose key and value are to begin at data.
func readElement(b []byte, at, data uint64, flags uint16) (e element, err error) {
	pos, ksize, vsize := extent(b, at, flags)
	// In 64 bits, so that damaged numbers do not wrap around.
	e.end = data + ksize + vsize
	switch {
	case at+pos != data:
		return e, errors.New("its key is not where bbolt has written it")
	case e.end > uint64(len(b)):
		return e, errors.New("it reaches beyond its page")
	}
	ne := binary.NativeEndian
	e.key = b[data : data+ksize]
	switch {
	case flags == flagBranch:
		e.children = []child{{page: ne.Uint64(b[at+8:]), from: e.key}}
	case ne.Uint32(b[at:])&bucketElement != 0:
		e.children, err = bucketPages(b[data+ksize : e.end])
	}
	return e, err
}

// extent is where the element at an offset says that its key begins, seen from there, and how
// long key and value are.
func extent(b []byte, at uint64, flags uint16) (pos, ksize, vsize uint64) {
	ne := binary.NativeEndian
	if flags == flagBranch {
		return uint64(ne.Uint32(b[at:])), uint64(ne.Uint32(b[at+4:])), 0
	}
	return uint64(ne.Uint32(b[at+4:])), uint64(ne.Uint32(b[at+8:])), uint64(ne.Uint32(b[at+12:]))
}

// bucketPages are the pages that the value of a bucket leads to.
func bucketPages(value []byte) ([]child, error) {
	tooShort := errors.New("it is a bucket that is too short")
	if len(value) < bucketHeader {
		return nil, tooShort
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return []child{{page: root}}, nil
	}
	if len(value) < bucketHeader+pageHeader {
		return nil, tooShort
	}
	return elements(value[bucketHeader:], nil, nil) // a small bucket is a page inside its value
}

// countElements is how many elements a page has that says it has count of them. bbolt writes
// the first key right behind the last element, and keys and values one behind the other: where
// that holds for another number, the count is damaged. Else a leaf has no more than its first
// two elements leave room for, since one of them may be damaged: what a greater count leads to
// may be records of another time.
func countElements(page []byte) (n uint64, damage string) {
	flags, count := header(page)
	room := (uint64(len(page)) - pageHeader) / elementSize
	if room > 0 {
		first, _, _ := extent(page, pageHeader, flags)
		n = first / elementSize
	}
	if n != count && n <= room && contiguous(page, flags, n) {
		return n, fmt.Sprintf("a page says that it has %d elements, and has %d", count, n)
	}
	for i := range min(room, 2) {
		pos, _, _ := extent(page, pageHeader+i*elementSize, flags)
		n = max(n, i+pos/elementSize)
	}
	if n = min(room, n); count > n {
		return n, fmt.Sprintf("a page has no room for %d elements", count)
	}
	return count, ""
}

// contiguous reports whether the data of n elements is where bbolt writes that of so many.
func contiguous(page []byte, flags uint16, n uint64) bool {
	data := pageHeader + n*elementSize
	for i := range n {
		at := pageHeader + i*elementSize
		pos, ksize, vsize := extent(page, at, flags)
		if at+pos != data || data+ksize+vsize > uint64(len(page)) {
			return false
		}
		data += ksize + vsize
	}
	return n > 0
}

// leafElement returns the i-th element of a leaf.
func leafElement(page []byte, i uint64) (key, value []byte, isBucket bool, err error) {
	at := pageHeader + i*elementSize
	if at+elementSize > uint64(len(page)) {
		return nil, nil, false, errors.New("there is no room for it")
	}
	b := page[at:]
	pos, ksize, vsize := extent(page, at, flagLeaf)
	if key, err = part(b, pos, ksize); err != nil {
		return nil, nil, false, err
	}
	if value, err = part(b, pos+ksize, vsize); err != nil {
		return nil, nil, false, err
	}
	return key, value, binary.NativeEndian.Uint32(b)&bucketElement != 0, nil
}

// part returns a part of b. In 64 bits, so that damaged numbers do not wrap around.
func part(b []byte, pos, size uint64) ([]byte, error) {
	if pos+size > uint64(len(b)) {
		return nil, errors.New("it reaches beyond its page")
	}
	return b[pos : pos+size], nil
}
