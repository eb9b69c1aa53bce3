package hive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	// logSpare is what a copy must leave free for others, the state file first.
	logSpare = 16 << 20
	// copyBlock is how much is copied before it is looked whether the hive closes.
	copyBlock = 1 << 20
	// catchUps is how often what was written during a copy is copied too, before
	// readers are kept waiting for the rest.
	catchUps = 16
	restSize = 64 << 10
)

// errNoRoom: there is no room for a copy.
var errNoRoom = errors.New("no room on the disk")

// errOutgrown: the worker writes faster than its log is copied, or made a hole.
var errOutgrown = errors.New("it grew faster than it could be copied")

// noRoom reports whether a copy failed because there is no room for it.
func noRoom(err error) bool {
	return errors.Is(err, errNoRoom) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// rotate moves what is older out of a log that is too large. The file stays the
// same one: that the worker's stdout is this file is a proof of membership, and
// so the worker needs no pipe. Where the file system can take blocks out of the
// head of a file nothing is lost. Elsewhere the log is copied and then cut, and
// what the worker writes between the last read and the cut is lost: a few
// microseconds. If there is no room for a copy, older ones are given up, and then
// the log is cut.
//
// Whoever owns the log can change it all the time, and can have it of any size. So
// each step has a bound of its own, holes are never copied, and what counts is the
// data in it and the room that it takes on the disk.
func (l *logs) rotate(ctx context.Context, f *logFile) error {
	f.change.Lock()
	defer f.change.Unlock()
	if !f.own {
		return fmt.Errorf("%s is not in %s", f.path, l.dir)
	}
	live, err := openRegular(f.path, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return err
	}
	defer live.Close()
	fi, err := live.Stat()
	if err != nil {
		return err
	}
	if f.seen == nil {
		f.seen = fi
	}
	if !os.SameFile(f.seen, fi) {
		return fmt.Errorf("%s is not the file that it was", f.path)
	}
	f.find(l.cfg.Keep)
	r := &rotation{logs: l, log: f, live: live}
	for range l.cfg.Keep + 2 { // more would be for a worker that writes faster than can be copied
		again, err := r.step(ctx)
		if errors.Is(err, io.EOF) {
			return nil // the worker itself has cut it meanwhile
		}
		if err != nil || !again {
			return err
		}
	}
	return nil
}

// rotation is the work on one log; log.change is held.
type rotation struct {
	logs *logs
	log  *logFile
	live *os.File // read and written, at its end
	size int64
}

// step makes the log smaller if it is too large. It reports whether it may still
// be.
func (r *rotation) step(ctx context.Context) (again bool, err error) {
	fi, err := r.live.Stat()
	if err != nil {
		return false, err
	}
	r.size = fi.Size()
	limit, room := r.logs.cfg.MaxSize, allocated(fi)
	if ctx.Err() != nil {
		return false, nil
	}
	if r.size <= limit {
		return false, r.giveBack(room)
	}
	// A worker that has opened its stdout anew without O_APPEND goes on at its old
	// place after a rotation. That leaves a hole, which is no reason for another.
	first, amount := dataIn(r.live, r.size)
	if max(amount, min(room, r.size)) <= limit {
		return false, nil
	}
	unit := r.headUnit()
	if unit == 0 {
		return false, r.copyAndCut(ctx, r.lineFrom(max(first, r.size-2*limit)))
	}
	beyond := r.size - int64(r.logs.cfg.Keep+1)*limit // would be rotated away at once
	if useless := max(first, beyond) / unit * unit; useless > 0 {
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		return true, r.takeHead(useless)
	}
	return true, r.moveHead(ctx, min(limit, r.size-1)/unit*unit)
}

// giveBack gives back room that was set aside beyond the end of a log (fallocate(2),
// FALLOC_FL_KEEP_SIZE), if it is more than a file system sets aside by itself.
func (r *rotation) giveBack(room int64) error {
	if room <= r.size+2*r.logs.cfg.MaxSize {
		return nil
	}
	if err := r.live.Truncate(r.size); err != nil {
		return fmt.Errorf("give back the room beyond the end of the log: %w", err)
	}
	return nil
}

// lineFrom is where the first line begins at or after a place, if it is not far.
func (r *rotation) lineFrom(at int64) int64 {
	if at == 0 {
		return 0
	}
	block := make([]byte, restSize)
	n, _ := r.live.ReadAt(block, at-1) // what cannot be read here is not copied either
	return at + int64(max(bytes.IndexByte(block[:n], '\n'), 0))
}

// headUnit is in what units the head of a log can be taken away; 0: it cannot.
func (r *rotation) headUnit() int64 {
	unit := r.logs.headUnit()
	if r.log.refused || unit > r.logs.cfg.MaxSize {
		return 0
	}
	return unit
}

// headUnit finds it out once, by trial.
func (l *logs) headUnit() int64 {
	l.tried.Do(func() { l.unit.Store(collapseUnit(l.dir)) })
	return l.unit.Load()
}

// takeHead takes n bytes away from the head; log.mu is held. A log of which the file
// system has refused to take it is copied and cut from then on, and no other: its
// owner can bring that about (chattr -e).
func (r *rotation) takeHead(n int64) error {
	if err := collapseHead(r.live, n); err != nil {
		if fi, errStat := r.live.Stat(); errStat == nil && fi.Size() <= n {
			return io.EOF // cut by the worker itself
		}
		r.log.refused = true
		return fmt.Errorf("take the head of the log away: %w", err)
	}
	r.log.base += n
	return nil
}

// moveHead moves the first n bytes to a rotated file. A kill -9 between the two
// last steps leaves them in both (see mend).
func (r *rotation) moveHead(ctx context.Context, n int64) error {
	moved, err := r.copyOut(ctx, 0, n)
	if noRoom(err) {
		return r.cut()
	}
	if err != nil {
		return err
	}
	defer moved.Close()
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if err := r.shift(); err != nil {
		return err
	}
	if err := r.takeHead(n); err != nil {
		return errors.Join(err, os.Remove(r.log.name(1))) // all of it is still in the log
	}
	r.keep(r.log.base-n, r.log.base)
	return nil
}

// copyAndCut copies what lies from from on, and cuts the log.
func (r *rotation) copyAndCut(ctx context.Context, from int64) error {
	moved, err := r.copyOut(ctx, from, r.size-from)
	if noRoom(err) {
		return r.cut()
	}
	if err != nil {
		return err
	}
	defer moved.Close()
	_, left := dataIn(r.live, from)
	end, err := r.catchUp(ctx, moved, from)
	if err != nil && !noRoom(err) {
		return errors.Join(err, os.Remove(r.log.unfinished()))
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if err := r.shift(); err != nil {
		return err
	}
	// From here on every microsecond counts: what is written between the last
	// read, which finds nothing, and the cut is lost.
	end, why := r.copyRest(moved, from, end)
	if why != nil && !noRoom(why) && !errors.Is(why, errOutgrown) {
		return errors.Join(why, os.Remove(r.log.name(1)))
	}
	lost, err := r.truncate(end)
	if err != nil {
		return errors.Join(err, os.Remove(r.log.name(1)))
	}
	r.keep(r.log.base+from, r.log.base+end)
	r.log.base += end + lost
	if left > 0 {
		r.sayCut(left, "it had grown faster than it is rotated")
	}
	switch {
	case noRoom(why):
		r.sayCut(lost, "there was no room to keep them")
	case why != nil:
		r.sayCut(lost, why.Error())
	}
	return nil
}

// catchUp copies what was written meanwhile, until little is left.
func (r *rotation) catchUp(ctx context.Context, to *os.File, origin int64) (end int64, err error) {
	end = r.size
	for range catchUps {
		fi, err := r.live.Stat()
		if err != nil || fi.Size()-end <= restSize {
			return end, err
		}
		n, err := copyRange(ctx, to, r.live, origin, end, min(fi.Size()-end, r.logs.cfg.MaxSize))
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
	block := make([]byte, restSize)
	for most := end + r.logs.cfg.MaxSize; end < most; {
		n, err := r.live.ReadAt(block, end)
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

// truncate cuts the whole log, and returns how much of it lay beyond end.
func (r *rotation) truncate(end int64) (lost int64, err error) {
	if fi, err := r.live.Stat(); err == nil {
		lost = max(fi.Size()-end, 0)
	}
	if err := r.live.Truncate(0); err != nil {
		return 0, fmt.Errorf("cut the log: %w", err)
	}
	return lost, nil
}

// cut makes the log smaller without keeping what is taken away: where that can
// be done the older half, else all of it.
func (r *rotation) cut() error {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if unit := r.headUnit(); unit > 0 {
		n := max(unit, (r.size-r.logs.cfg.MaxSize/2)/unit*unit)
		if r.takeHead(n) == nil {
			r.sayCut(n, "there was no room to keep them")
			return nil
		}
	}
	n, err := r.truncate(0)
	if err != nil {
		return err
	}
	r.log.base += n
	r.sayCut(n, "there was no room to keep them")
	return nil
}

// sayCut says in the log that a part of it is missing.
func (r *rotation) sayCut(n int64, why string) {
	_, _ = fmt.Fprintf(r.live, "--- hive: log cut %s: %d bytes are gone, %s\n", time.Now().UTC().Format(time.RFC3339), n, why)
}

// copyOut copies a part of the log to the file that becomes the first rotated
// one. For want of room it gives up the oldest of those.
func (r *rotation) copyOut(ctx context.Context, from, n int64) (*os.File, error) {
	for {
		to, err := r.tryCopy(ctx, from, n)
		if !noRoom(err) || !r.giveUpOldest() {
			return to, err
		}
	}
}

func (r *rotation) tryCopy(ctx context.Context, from, n int64) (*os.File, error) {
	if free, known := freeIn(r.logs.dir); known && free < n+logSpare {
		return nil, errNoRoom
	}
	path := r.log.unfinished()
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

// giveUpOldest removes the oldest rotated file, and reports whether there was one.
func (r *rotation) giveUpOldest() bool {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	last := len(r.log.old) - 1
	if last < 0 {
		return false
	}
	_ = os.Remove(r.log.name(r.log.old[last].n)) // gone already is as good
	r.log.old = r.log.old[:last]
	return true
}

// shift makes the new file the first one, and others the next where they must
// make way; log.mu is held. After an error the log is as it was, but for numbers
// that are left out.
func (r *rotation) shift() error {
	for i, p := range slices.Backward(r.log.old) { // the oldest first: nothing is overwritten
		n, err := max(p.n, i+2), error(nil)
		switch {
		case n > r.logs.cfg.Keep:
			err = os.Remove(r.log.name(p.n))
		case n != p.n:
			err = os.Rename(r.log.name(p.n), r.log.name(n))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return errors.Join(err, os.Remove(r.log.unfinished()))
		}
		r.log.old[i].n = n
	}
	r.log.old = slices.DeleteFunc(r.log.old, func(p piece) bool { return p.n > r.logs.cfg.Keep })
	if err := os.Rename(r.log.unfinished(), r.log.name(1)); err != nil {
		return errors.Join(err, os.Remove(r.log.unfinished()))
	}
	return nil
}

// keep notes what the first rotated file holds; log.mu is held.
func (r *rotation) keep(begin, end int64) {
	r.log.old = slices.Insert(r.log.old, 0, piece{1, begin, end})
}
