package logs

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"slices"
)

// readBlock is how much of a log is read at once.
const readBlock = 32 << 10

// Reader reads a worker's log from one position on, also while it is rotated: it
// neither repeats nor leaves out what is there. What was removed before it was
// read is passed over, and so are holes: a worker of another user owns its log, and
// can make a hole of terabytes in it. It is not safe for concurrent use.
type Reader struct {
	log     *log
	limit   int64    // how many bytes of the log itself are looked at: rotation leaves fewer
	live    *os.File // what the worker appends to
	pos     int64
	rotated *os.File // the rotated file that was read last; nil: none
	held    segment  // what rotated holds
}

// Open opens the log of a worker, which was recorded as lying at path, where its last
// lines begin; with lines below 0 at the beginning of all that is kept. A line that is
// not finished counts. It reads the log backwards as far as it must, but of what is not
// rotated yet no more than 2 × (Config.Keep + 1) × Config.MaxSize bytes: where the lines
// go on beyond that it begins in the middle of one. It does not wait.
// Errors: ErrGone if the log has been removed; ctx's; those of reading.
// The caller closes it.
func (d *Dir) Open(ctx context.Context, id, path string, lines int) (*Reader, error) {
	r, err := d.open(id, path)
	if err != nil {
		return nil, err
	}
	if err := r.seekLines(ctx, lines); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// open opens the log of a worker at position 0.
func (d *Dir) open(id, path string) (*Reader, error) {
	l := d.log(id, path)
	l.load(d.cfg.Keep)
	live, err := openRegular(l.path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &Reader{log: l, live: live, limit: 2 * d.cfg.MaxSize * (int64(d.cfg.Keep) + 1)}, nil
}

// Close closes the files.
func (r *Reader) Close() {
	r.live.Close()
	if r.rotated != nil {
		r.rotated.Close()
	}
}

// Rest yields what lies between here and the end as the log is when it is called, in
// blocks of at most 32 KiB that are valid until the next one. What is written
// meanwhile is for the next call, and so is all there is if the log is cut by its
// worker meanwhile: neither makes it endless. Errors: ctx's, and those of reading;
// it ends with them.
func (r *Reader) Rest(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		end, err := r.end()
		if err != nil {
			yield(nil, err)
			return
		}
		var block []byte
		for r.pos < end {
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			// Made when there is something to read: followers of quiet logs are many.
			if block == nil {
				block = make([]byte, min(readBlock, end-r.pos))
			}
			n, at, err := r.readAt(block, r.pos)
			if err != nil {
				yield(nil, err)
				return
			}
			// Cut meanwhile, beyond what was there at the call, or nothing left.
			last := at < r.pos || at >= end || n == 0 && at == r.pos
			n = int(min(int64(n), end-at))
			if r.pos = at; last {
				return
			}
			r.pos += int64(n)
			if n > 0 && !yield(block[:n], nil) {
				return
			}
		}
	}
}

// end returns the position at which the log ends now, which is never before r.pos.
func (r *Reader) end() (int64, error) {
	all, err := r.segments()
	if err != nil {
		return 0, err
	}
	live := all[len(all)-1]
	if r.pos > live.end {
		r.pos = live.begin // cut by the worker itself or by somebody else: what is there now is new
	}
	return live.end, nil
}

// segments returns what there is, oldest first; the log itself is the last.
func (r *Reader) segments() ([]segment, error) {
	r.log.mu.RLock()
	defer r.log.mu.RUnlock()
	live, err := r.liveSegment()
	if err != nil {
		return nil, err
	}
	// A copy: the slice is the log's, and Reverse works in place.
	all := slices.Clone(r.log.rotated)
	slices.Reverse(all)
	return append(all, live), nil
}

// liveSegment is what the log itself holds; log.mu is held.
func (r *Reader) liveSegment() (segment, error) {
	fi, err := r.live.Stat()
	if err != nil {
		return segment{}, err
	}
	return segment{0, r.log.base, r.log.base + fi.Size()}, nil
}

// readAt reads from pos on, or if that is gone or a hole from the next position that is
// neither; at says where. Nothing and no error: it has only come as far as at, and if
// that is pos, the end for now.
func (r *Reader) readAt(p []byte, pos int64) (n int, at int64, err error) {
	for {
		live := false
		err = r.withSegment(pos, func(file *os.File, s segment, from int64) error {
			live = s.n == 0
			got, off, err := readData(file, p, from-s.begin, s.end-s.begin)
			n, at = got, s.begin+off
			if n == 0 && !live && from == at {
				at = s.end // somebody has cut it
			}
			return noEOF(err)
		})
		if n > 0 || err != nil || live {
			return n, at, err
		}
		// A rotated file that was cut, or is a hole to its end: on with the next one.
		pos = at
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// withSegment calls use with the segment that holds pos, or the next one after it: from
// is pos or the beginning of that. In the log itself no rotation takes place meanwhile;
// use reads little at a time.
func (r *Reader) withSegment(pos int64, use func(file *os.File, s segment, from int64) error) error {
	// The open file holds these bytes, however it was renumbered or removed meanwhile.
	if r.rotated != nil && r.held.begin <= pos && pos < r.held.end {
		return use(r.rotated, r.held, pos)
	}
	r.log.mu.RLock()
	defer r.log.mu.RUnlock()
	for _, s := range slices.Backward(r.log.rotated) {
		if pos >= s.end || pos >= r.log.base {
			continue
		}
		file, err := openRegular(r.log.rotatedPath(s.n), os.O_RDONLY)
		if err != nil {
			continue // removed by hand
		}
		if r.rotated != nil {
			r.rotated.Close()
		}
		r.rotated, r.held = file, s
		return use(file, s, max(pos, s.begin))
	}
	live, err := r.liveSegment()
	if err != nil {
		return err
	}
	if pos = max(pos, live.begin); pos > live.end {
		pos = live.begin // cut in place by others than hive: what is there now is new
	}
	return use(r.live, live, pos)
}
