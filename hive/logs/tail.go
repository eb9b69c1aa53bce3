package logs

import (
	"bytes"
	"context"
	"math"
	"os"
	"slices"
	"strings"

	"rbeehive/store/plain"
)

// holeCost is what zeros take, in bytes, of what a search may look through, however many
// there are: a log of many small holes ends it too.
const holeCost = 4 << 10

// seekLines goes to where the last lines begin; below 0: to where all begins.
func (r *Reader) seekLines(ctx context.Context, lines int) error {
	all, err := r.segments()
	if err != nil {
		return err
	}
	r.pos = all[len(all)-1].end
	switch {
	case lines < 0:
		r.seekAll(all)
		return nil
	case lines == 0:
		return nil
	}
	rotated := all[len(all)-1].begin - all[0].begin // hive itself has made these
	return r.seekBack(ctx, all, lines, r.limit+rotated)
}

// seekAll goes to the beginning, or where the log has far more than rotation leaves in
// it, to that much before the end.
func (r *Reader) seekAll(all []segment) {
	live := all[len(all)-1]
	r.pos = all[0].begin
	if _, amount := dataIn(r.live, live.end-live.begin); amount > r.limit {
		r.pos = live.end - r.limit
	}
}

// seekBack goes back from the end of segments over so many lines, and over at most limit
// bytes: a line may be as long as its worker likes.
func (r *Reader) seekBack(ctx context.Context, segments []segment, lines int, limit int64) error {
	block, ended := make([]byte, min(readBlock, limit)), false
	for _, s := range slices.Backward(segments) {
		for at := s.end; at > s.begin; at = r.pos {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			part := block[:min(at-s.begin, int64(len(block)), limit)]
			from := at - int64(len(part))
			if whole, err := r.readFull(part, from); err != nil || !whole { // what is older has just been removed
				return err
			}
			r.pos = from
			text := bytes.TrimLeft(part, "\x00")
			limit -= int64(len(text) + min(len(part)-len(text), holeCost))
			var begin int
			if begin, lines, ended = countBack(part, lines, ended); lines == 0 {
				r.pos = from + int64(begin)
				return nil
			}
			if len(text) == 0 {
				// Block by block a hole of terabytes would take hours.
				r.pos = max(r.pastHole(from), s.begin)
			}
			if limit <= 0 {
				return nil
			}
		}
	}
	return nil
}

// countBack goes back through a part of a log, and returns what is left of lines, and
// where the last one begins if nothing is. ended says that the end of the text is
// behind it: the newline that ends the log begins no line.
func countBack(part []byte, lines int, ended bool) (begin, left int, stillEnded bool) {
	for i := len(part) - 1; i >= 0; i-- {
		switch {
		case !ended && part[i] == 0: // what is left of a hole behind the text
		case part[i] != '\n' || !ended:
			ended = true
		default:
			if lines--; lines == 0 {
				return i + 1, 0, true
			}
		}
	}
	return 0, lines, ended
}

// pastHole goes back over the hole before a position; pos itself if there is none.
func (r *Reader) pastHole(pos int64) int64 {
	start := pos
	_ = r.withSegment(pos-1, func(file *os.File, s segment, from int64) error { // an error comes again when it is read
		if from == pos-1 {
			start = s.begin + endOfData(file, pos-s.begin)
		}
		return nil
	})
	return start
}

// readFull reads all of p from a position, holes as the zeros that they are, and reports
// whether it is still there.
func (r *Reader) readFull(p []byte, from int64) (whole bool, err error) {
	for len(p) > 0 {
		n := 0
		err := r.withSegment(from, func(file *os.File, s segment, at int64) (err error) {
			// Elsewhere it has been removed meanwhile, and this would be something later.
			if at == from {
				n, err = file.ReadAt(p[:min(int64(len(p)), s.end-at)], at-s.begin)
			}
			return noEOF(err)
		})
		if err != nil || n == 0 {
			return false, err
		}
		p, from = p[n:], from+int64(n)
	}
	return true, nil
}

// maxShown is how much of a line the error of a failed start shows, in bytes.
const maxShown = 1000

// Started begins the line of hive's own, as Printf writes it, behind which the output of a
// worker's last start is.
const Started = "started"

// LastLines returns up to n last lines of a worker's own output, for the error of a
// failed start: plain text, without the colours of a terminal, and what that shows of a
// line that was written over. They come from the last 16 KiB, and from behind the last line
// of hive's own that begins with since: what is before it is of another start. It does not
// wait; what cannot be read is left out.
func (d *Dir) LastLines(ctx context.Context, id, path, since string, n int) []string {
	const limit = 16 << 10
	lines := []string{}
	r, err := d.open(id, path)
	if err != nil {
		return lines
	}
	defer r.Close()
	all, err := r.segments()
	if err != nil || r.seekBack(ctx, all, math.MaxInt, limit) != nil {
		return lines
	}
	inside := r.pos > all[0].begin // in the middle of a line, or at the beginning of one
	var raw []byte
	for block, err := range r.Rest(ctx) {
		raw = append(raw, block...)
		if err != nil || len(raw) >= limit { // what could be read will do, and more than that is of now
			break
		}
	}
	// Half a line would be shown as one, and may begin in the middle of a character.
	if _, rest, whole := bytes.Cut(raw, []byte("\n")); inside && whole && len(rest) > 0 {
		raw = rest
	}
	for line := range strings.Lines(string(raw)) {
		line = shown(strings.Trim(strings.TrimRight(line, "\n"), "\x00")) // what is left at the edge of a hole
		switch {
		case strings.HasPrefix(line, linePrefix+since):
			lines = lines[:0]
		case line != "" && !strings.HasPrefix(line, linePrefix):
			lines = append(lines, plain.Clip(line, maxShown))
		}
	}
	return lines[max(0, len(lines)-n):]
}

// shown is what a terminal shows of a line at last. A CR, as progress bars write it, goes
// back to the beginning of the line, and what follows is written over it.
func shown(line string) string {
	for _, part := range slices.Backward(strings.Split(plain.Uncoloured(line), "\r")) {
		if part = strings.TrimRight(part, " "); part != "" {
			return part
		}
	}
	return ""
}
