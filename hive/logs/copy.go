package logs

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
)

const (
	// diskReserve is what a copy must leave free for others, the state file first.
	diskReserve = 16 << 20
	// copyBlock is how much is copied before it is looked whether the hive closes.
	copyBlock = 1 << 20
	// maxCatchUps is how often what was written during a copy is copied too, before
	// readers are kept waiting for the rest.
	maxCatchUps = 16
	// smallBlock is for what is read while somebody waits.
	smallBlock = 64 << 10
)

// copyToTemp copies a part of the log to the file that becomes the first rotated
// one. For want of room it gives up the oldest of those.
func (r *rotation) copyToTemp(ctx context.Context, from, n int64) (*os.File, error) {
	for {
		to, err := r.tryCopy(ctx, from, n)
		// The newest lines are worth more than the oldest ones.
		if !isNoSpace(err) || !r.removeOldest() {
			return to, err
		}
	}
}

func (r *rotation) tryCopy(ctx context.Context, from, n int64) (*os.File, error) {
	if free, known := freeSpace(r.dir.dir); known && free < n+diskReserve {
		return nil, errNoSpace
	}
	path := r.log.tempPath()
	_ = os.Remove(path)                                                                     // of a hive that was killed, or something put there to be followed
	to, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600) //nolint:gosec // in hive's own directory, and made by this open
	if err != nil {
		return nil, err
	}
	if _, err = copyRange(ctx, to, r.live, from, from, n); err == nil {
		// Else a power failure right after the rotation would take what had long been on disk.
		err = to.Sync()
	}
	if err != nil {
		to.Close()
		return nil, errors.Join(err, os.Remove(path))
	}
	return to, nil
}

// copyRange copies n bytes from at on to a file that begins with what lies at origin,
// and returns how many it did. A hole stays one. io.EOF: there are fewer.
func copyRange(ctx context.Context, to, from *os.File, origin, at, n int64) (done int64, err error) {
	block := make([]byte, min(n, copyBlock))
	for done < n {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		got, where, err := readData(from, block, at+done, at+n)
		switch {
		case got > 0:
			got, err = to.WriteAt(block[:got], where-origin)
		case err == nil && where > at+done: // nothing but a hole is left
			err = to.Truncate(where - origin)
		case err == nil:
			err = io.EOF
		}
		if err != nil && got == 0 {
			return done, err
		}
		if done = where + int64(got) - at; err != nil {
			return done, err
		}
	}
	return done, nil
}

// catchUp copies what was written meanwhile, until little is left.
func (r *rotation) catchUp(ctx context.Context, to *os.File, origin int64) (end int64, err error) {
	end = r.size
	for range maxCatchUps {
		fi, err := r.live.Stat()
		if err != nil || fi.Size()-end <= smallBlock {
			return end, err
		}
		// Bounded, so that a round ends however fast the worker writes.
		n, err := copyRange(ctx, to, r.live, origin, end, min(fi.Size()-end, r.dir.cfg.MaxSize))
		end += n
		if err != nil {
			return end, err
		}
	}
	return end, nil
}

// copyRest copies from end on until a read finds nothing: readers wait, and so not
// more than a log may have. Errors: errOutgrown if there was more.
func (r *rotation) copyRest(to *os.File, origin, end int64) (newEnd int64, err error) {
	block := make([]byte, smallBlock)
	for most := end + r.dir.cfg.MaxSize; end < most; {
		n, err := r.live.ReadAt(block, end)
		// Nothing more: the cut that follows loses only what is written from now on.
		if n == 0 && errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return end, err
		}
		m, err := to.WriteAt(block[:n], end-origin)
		if end += int64(m); err != nil {
			return end, err
		}
	}
	return end, errOutgrown
}
