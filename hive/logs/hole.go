package logs

import (
	"bytes"
	"os"
)

const (
	// minHole is how many zeros in a row are worth asking whether they are a hole. It
	// is also the most that is left at the edge of one, up to a whole block.
	minHole = 4 << 10
	// maxSkips bounds what one read passes over: there can be millions of holes.
	maxSkips = 64
)

// readData reads from a position of a file on, before end, and passes over holes, with the
// zeros at their edges. from is where what was read begins; with nothing read it is how
// far it came, and end if only a hole is left. The file system is asked only where zeros
// were read: not every one knows at once what was written, and text must not be taken
// for a hole.
func readData(f *os.File, p []byte, at, end int64) (n int, from int64, err error) {
	behind := false // at is behind a hole
	for skips := 0; at < end && skips < maxSkips; skips++ {
		n, err = f.ReadAt(p[:min(int64(len(p)), end-at)], at)
		if n == 0 {
			return 0, at, err
		}
		zeros := n - len(bytes.TrimLeft(p[:n], "\x00"))
		if text := beforeHole(p[:n]); text > 0 && (zeros == 0 || !behind) {
			return text, at, nil
		}
		data, hole := nextData(f, at), nextHole(f, at)
		switch {
		case data < 0 || data >= end:
			return 0, end, nil
		case data > at:
			at, behind = data, true
		// Zeros up to a hole are the end of a block that was written in part.
		case hole-at <= int64(zeros):
			at = hole
		// The same on its other side: the file system begins a block with zeros.
		case behind:
			at, behind = at+int64(min(zeros, minHole)), false
		default: // zeros that were written
			return int(min(int64(n), hole-at)), at, nil
		}
	}
	return 0, at, nil
}

// beforeHole returns how many bytes there are before zeros that may be a hole.
func beforeHole(p []byte) int {
	for i := 0; ; {
		zero := bytes.IndexByte(p[i:], 0)
		if zero < 0 {
			return len(p)
		}
		begin := i + zero
		for i = begin; i < len(p) && p[i] == 0; i++ {
		}
		if i == len(p) || i-begin >= minHole {
			return begin
		}
	}
}

// endOfData returns a position that is not behind at, with nothing but a hole between the
// two, and data in the minHole bytes before it. It is at itself if there is no hole,
// and 0 if there is nothing else.
func endOfData(f *os.File, at int64) int64 {
	if data := nextData(f, 0); data < 0 || data >= at {
		return 0
	}
	// By halves, since lseek(2) finds the next data and never the one before.
	lo, hi := int64(0), at // there is data from lo on before at, and none from hi on
	for hi-lo > minHole {
		middle := lo + (hi-lo)/2
		if data := nextData(f, middle); data >= 0 && data < at {
			lo = data
		} else {
			hi = middle
		}
	}
	return hi
}
