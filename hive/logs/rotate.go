package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// checkInterval is how often Run looks at the sizes of logs.
const checkInterval = 3 * time.Second

// Run rotates logs that are too large, as Rotate does, until ctx ends. sources
// returns the workers that there are.
func (d *Dir) Run(ctx context.Context, sources func() []Source) {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		d.Rotate(ctx, sources())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Rotate rotates the logs that are too large now, but for those of ended workers, which
// are Prune's. It blocks for the copies; what goes wrong with one is reported once, and
// tried again the next time.
func (d *Dir) Rotate(ctx context.Context, sources []Source) {
	for _, s := range sources {
		if !s.Ended {
			d.rotateSource(ctx, s)
		}
	}
}

func (d *Dir) rotateSource(ctx context.Context, s Source) {
	if s.Foreign {
		return
	}
	fi, err := os.Lstat(s.Path)
	if err != nil || max(fi.Size(), allocated(fi)) <= d.cfg.MaxSize || ctx.Err() != nil {
		return // one that is gone needs no rotation
	}
	l := d.log(s.ID, s.Path)
	err = d.rotate(ctx, l)
	if err == nil {
		// If there is trouble again, that is news.
		l.warned.Store(false)
	} else if ctx.Err() == nil && !l.warned.Swap(true) {
		d.out.WithError(err).WithField("worker", s.ID).Warn("a worker's log cannot be rotated and goes on growing")
	}
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
func (d *Dir) rotate(ctx context.Context, l *log) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if !l.local {
		return fmt.Errorf("%s is not in %s", l.path, d.dir)
	}
	live, err := openRegular(l.path, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return err
	}
	defer live.Close()
	fi, err := live.Stat()
	if err != nil {
		return err
	}
	if l.first == nil {
		l.first = fi
	}
	// Somebody has put another file there. The worker still writes to the old one, and
	// to rotate this one would keep nothing small.
	if !os.SameFile(l.first, fi) {
		return fmt.Errorf("%s is not the file that it was", l.path)
	}
	l.load(d.cfg.Keep)
	r := &rotation{dir: d, log: l, live: live}
	for range d.cfg.Keep + 2 { // more would be for a worker that writes faster than can be copied
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

// rotation is the work on one log; log.changing is held.
type rotation struct {
	dir  *Dir
	log  *log
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
	limit, room := r.dir.cfg.MaxSize, allocated(fi)
	if ctx.Err() != nil {
		return false, nil
	}
	if r.size <= limit {
		return false, r.freeBeyondEnd(room)
	}
	// A worker that has opened its stdout anew without O_APPEND goes on at its old
	// offset after a rotation. That leaves a hole, which is no reason for another.
	first, amount := dataIn(r.live, r.size)
	if max(amount, min(room, r.size)) <= limit {
		return false, nil
	}
	unit := r.headUnit()
	if unit == 0 {
		// Twice the limit at most, however much there is: while it is copied it goes on growing.
		return false, r.copyAndTruncate(ctx, r.lineFrom(max(first, r.size-2*limit)))
	}
	// What rotation would remove again at once is not copied first.
	beyond := r.size - int64(r.dir.cfg.Keep+1)*limit
	if useless := max(first, beyond) / unit * unit; useless > 0 {
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		return true, r.dropHead(useless)
	}
	// Never all of it: the head of a file must end before the file does (fallocate(2)).
	return true, r.moveHead(ctx, min(limit, r.size-1)/unit*unit)
}

// freeBeyondEnd gives back room that was set aside beyond the end of a log (fallocate(2),
// FALLOC_FL_KEEP_SIZE), if it is more than a file system sets aside by itself.
func (r *rotation) freeBeyondEnd(room int64) error {
	if room <= r.size+2*r.dir.cfg.MaxSize {
		return nil
	}
	if err := r.live.Truncate(r.size); err != nil {
		return fmt.Errorf("give back the room beyond the end of the log: %w", err)
	}
	return nil
}

// lineFrom is where the first line begins at or after an offset, if it is not far.
func (r *rotation) lineFrom(at int64) int64 {
	if at == 0 {
		return 0
	}
	block := make([]byte, smallBlock)
	n, _ := r.live.ReadAt(block, at-1) // what cannot be read here is not copied either
	return at + int64(max(bytes.IndexByte(block[:n], '\n'), 0))
}

// headUnit is in what units the head of this log can be taken away; 0: it cannot.
func (r *rotation) headUnit() int64 {
	unit := r.dir.headUnit()
	if r.log.noCollapse || unit > r.dir.cfg.MaxSize {
		return 0
	}
	return unit
}

// headUnit is in what units the file system can take heads away, found out once by
// trial; 0: it cannot.
func (d *Dir) headUnit() int64 {
	d.unitOnce.Do(func() { d.unit.Store(collapseUnit(d.dir)) })
	return d.unit.Load()
}

// dropHead takes n bytes away from the head; log.mu is held. A log of which the file
// system has refused to take it is copied and cut from then on, and no other: its
// owner can bring that about (chattr -e).
func (r *rotation) dropHead(n int64) error {
	if err := collapseHead(r.live, n); err != nil {
		if fi, errStat := r.live.Stat(); errStat == nil && fi.Size() <= n {
			return io.EOF // cut by the worker itself
		}
		r.log.noCollapse = true
		return fmt.Errorf("take the head of the log away: %w", err)
	}
	r.log.base += n
	return nil
}

// moveHead moves the first n bytes to a rotated file. A kill -9 between the two
// last steps leaves them in both (see repair).
func (r *rotation) moveHead(ctx context.Context, n int64) error {
	moved, err := r.copyToTemp(ctx, 0, n)
	if isNoSpace(err) {
		return r.discard()
	}
	if err != nil {
		return err
	}
	defer moved.Close()
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	// First the copy gets its name: killed in between, hive finds the lines twice and not gone.
	if err := r.renumber(); err != nil {
		return err
	}
	if err := r.dropHead(n); err != nil {
		return errors.Join(err, os.Remove(r.log.rotatedPath(1))) // all of it is still in the log
	}
	r.addRotated(r.log.base-n, r.log.base)
	return nil
}

// copyAndTruncate copies what lies from from on, and cuts the log.
func (r *rotation) copyAndTruncate(ctx context.Context, from int64) error {
	moved, err := r.copyToTemp(ctx, from, r.size-from)
	if isNoSpace(err) {
		return r.discard()
	}
	if err != nil {
		return err
	}
	defer moved.Close()
	_, left := dataIn(r.live, from)
	// Without the lock, so that readers do not wait for what can be copied meanwhile.
	end, err := r.catchUp(ctx, moved, from)
	if err != nil && !isNoSpace(err) {
		return errors.Join(err, os.Remove(r.log.tempPath()))
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if err := r.renumber(); err != nil {
		return err
	}
	// From here on every microsecond counts: what is written between the last
	// read, which finds nothing, and the cut is lost.
	end, why := r.copyRest(moved, from, end)
	if why != nil && !isNoSpace(why) && !errors.Is(why, errOutgrown) {
		return errors.Join(why, os.Remove(r.log.rotatedPath(1)))
	}
	lost, err := r.truncate(end)
	if err != nil {
		return errors.Join(err, os.Remove(r.log.rotatedPath(1)))
	}
	r.addRotated(r.log.base+from, r.log.base+end)
	// Positions count what was lost, too: a reader that had come so far would leave out as
	// much of what follows.
	r.log.base += end + lost
	if left > 0 {
		r.noteLoss(left, "it had grown faster than it is rotated")
	}
	switch {
	case isNoSpace(why):
		r.noteLoss(lost, "there was no room to keep them")
	case why != nil:
		r.noteLoss(lost, why.Error())
	}
	return nil
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

// discard makes the log smaller without keeping what is taken away: where that can
// be done the older half, else all of it.
func (r *rotation) discard() error {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	// Where that can be done only a part goes: the newest lines are worth the most.
	if unit := r.headUnit(); unit > 0 {
		n := max(unit, (r.size-r.dir.cfg.MaxSize/2)/unit*unit)
		if r.dropHead(n) == nil {
			r.noteLoss(n, "there was no room to keep them")
			return nil
		}
	}
	n, err := r.truncate(0)
	if err != nil {
		return err
	}
	r.log.base += n
	r.noteLoss(n, "there was no room to keep them")
	return nil
}

// noteLoss says in the log that a part of it is missing.
func (r *rotation) noteLoss(n int64, why string) {
	// A full disk may refuse this line as well.
	_, _ = fmt.Fprintf(r.live, "%slog cut %s: %d bytes are gone, %s\n", linePrefix, time.Now().UTC().Format(time.RFC3339), n, why)
}

// removeOldest removes the oldest rotated file, and reports whether there was one.
func (r *rotation) removeOldest() bool {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	last := len(r.log.rotated) - 1
	if last < 0 {
		return false
	}
	_ = os.Remove(r.log.rotatedPath(r.log.rotated[last].n)) // gone already is as good
	r.log.rotated = r.log.rotated[:last]
	return true
}

// renumber makes the new file the first one, and others the next where they must
// make way; log.mu is held. After an error the log is as it was, but for numbers
// that are left out.
func (r *rotation) renumber() error {
	for i, s := range slices.Backward(r.log.rotated) { // the oldest first: nothing is overwritten
		n, err := max(s.n, i+2), error(nil)
		switch {
		case n > r.dir.cfg.Keep:
			err = os.Remove(r.log.rotatedPath(s.n))
		case n != s.n:
			err = os.Rename(r.log.rotatedPath(s.n), r.log.rotatedPath(n))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return errors.Join(err, os.Remove(r.log.tempPath()))
		}
		r.log.rotated[i].n = n
	}
	r.log.rotated = slices.DeleteFunc(r.log.rotated, func(s segment) bool { return s.n > r.dir.cfg.Keep })
	if err := os.Rename(r.log.tempPath(), r.log.rotatedPath(1)); err != nil {
		return errors.Join(err, os.Remove(r.log.tempPath()))
	}
	return nil
}

// addRotated notes what the first rotated file holds; log.mu is held.
func (r *rotation) addRotated(begin, end int64) {
	r.log.rotated = slices.Insert(r.log.rotated, 0, segment{1, begin, end})
}
