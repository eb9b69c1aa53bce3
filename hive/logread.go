package hive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"rbeehive/store"
)

// logBlock is how much of a log is looked through at once.
const logBlock = 32 << 10

// LogReader reads a worker's log from one place on, also while it is rotated: it
// neither repeats nor leaves out what is there. What was removed before it was
// read is passed over, and so are holes: a worker of another user owns its log, and
// can make a hole of terabytes in it. It is not safe for concurrent use.
type LogReader struct {
	log  *logFile
	most int64    // bytes of the log itself that are looked at, at most: rotation leaves fewer
	live *os.File // what the worker appends to
	pos  int64
	old  *os.File // a rotated file that was read last; nil: none
	span piece    // what old holds
}

// OpenLog opens the log of a worker, given by id or name, where its last lines
// begin; with lines below 0 at the beginning of all that is kept. A line that is
// not finished counts. It reads the log backwards as far as it must, but of what is not
// rotated yet no more than 2 × (Logs.Keep + 1) × Logs.MaxSize bytes: where the lines go
// on beyond that it begins in the middle of one. It does not wait.
// Errors: ErrNotFound if there is no such worker, or its log has been removed; ctx's.
// The caller closes it. Safe for concurrent use.
func (h *Hive) OpenLog(ctx context.Context, ref string, lines int) (*LogReader, error) {
	rec, err := h.Worker(ref)
	if err != nil {
		return nil, err
	}
	r, err := h.logs.open(rec)
	if err == nil {
		if err = r.seekLines(ctx, lines); err != nil {
			r.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", rec.WorkerID, err)
	}
	return r, nil
}

// open opens the log of a worker at the place 0.
func (l *logs) open(rec store.Worker) (*LogReader, error) {
	f := l.of(rec)
	f.find(l.cfg.Keep)
	live, err := openRegular(f.path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &LogReader{log: f, live: live, most: 2 * l.cfg.MaxSize * (int64(l.cfg.Keep) + 1)}, nil
}

// Close closes the files.
func (r *LogReader) Close() {
	r.live.Close()
	if r.old != nil {
		r.old.Close()
	}
}

// Rest yields what lies between here and the end as the log is when it is called, in
// blocks of at most 32 KiB that are valid until the next one. What is written
// meanwhile is for the next call, and so is all there is if the log is cut by its
// worker meanwhile: neither makes it endless. Errors: ctx's, and those of reading;
// it ends with them.
func (r *LogReader) Rest(ctx context.Context) iter.Seq2[[]byte, error] {
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
			if block == nil {
				block = make([]byte, min(logBlock, end-r.pos))
			}
			n, at, err := r.readAt(block, r.pos)
			if err != nil {
				yield(nil, err)
				return
			}
			over := at < r.pos || at >= end || n == 0 && at == r.pos
			n = int(min(int64(n), end-at))
			if r.pos = at; over {
				return
			}
			r.pos += int64(n)
			if n > 0 && !yield(block[:n], nil) {
				return
			}
		}
	}
}

// end returns the place where the log ends now, which is never before r.pos.
func (r *LogReader) end() (int64, error) {
	all, err := r.spans()
	if err != nil {
		return 0, err
	}
	live := all[len(all)-1]
	if r.pos > live.end {
		r.pos = live.begin // cut by the worker itself or by somebody else: what is there now is new
	}
	return live.end, nil
}

// spans returns what there is, oldest first; the log itself is the last.
func (r *LogReader) spans() ([]piece, error) {
	r.log.mu.RLock()
	defer r.log.mu.RUnlock()
	live, err := r.liveSpan()
	if err != nil {
		return nil, err
	}
	all := slices.Clone(r.log.old)
	slices.Reverse(all)
	return append(all, live), nil
}

// liveSpan is what the log itself holds; log.mu is held.
func (r *LogReader) liveSpan() (piece, error) {
	fi, err := r.live.Stat()
	if err != nil {
		return piece{}, err
	}
	return piece{0, r.log.base, r.log.base + fi.Size()}, nil
}

// readAt reads from pos on, or if that is gone or a hole from the next place that is
// neither; at says where. Nothing and no error: it has only come as far as at, and if
// that is pos, the end for now.
func (r *LogReader) readAt(p []byte, pos int64) (n int, at int64, err error) {
	for {
		live := false
		err = r.in(pos, func(file *os.File, span piece, from int64) error {
			live = span.n == 0
			got, off, err := readData(file, p, from-span.begin, span.end-span.begin)
			n, at = got, span.begin+off
			if n == 0 && !live && from == at {
				at = span.end // somebody has cut it
			}
			return noEOF(err)
		})
		if n > 0 || err != nil || live {
			return n, at, err
		}
		pos = at
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// in lets use read the file that holds pos, or what comes next after it: from is pos
// or the beginning of that. span.n is 0 for the log itself, in which no rotation takes
// place meanwhile; use reads little at a time.
func (r *LogReader) in(pos int64, use func(file *os.File, span piece, from int64) error) error {
	if r.old != nil && r.span.begin <= pos && pos < r.span.end {
		return use(r.old, r.span, pos)
	}
	r.log.mu.RLock()
	defer r.log.mu.RUnlock()
	for _, span := range slices.Backward(r.log.old) {
		if pos >= span.end || pos >= r.log.base {
			continue
		}
		file, err := openRegular(r.log.name(span.n), os.O_RDONLY)
		if err != nil {
			continue // removed by hand
		}
		if r.old != nil {
			r.old.Close()
		}
		r.old, r.span = file, span
		return use(file, span, max(pos, span.begin))
	}
	live, err := r.liveSpan()
	if err != nil {
		return err
	}
	if pos = max(pos, live.begin); pos > live.end {
		pos = live.begin // cut in place by others than hive: what is there now is new
	}
	return use(r.live, live, pos)
}
