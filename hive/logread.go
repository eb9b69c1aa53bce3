package hive

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"rbeehive/store"
)

// logBlock is how much of a log is looked through at once.
const logBlock = 32 << 10

// LogReader reads a worker's log from one place on, also while it is rotated: it
// neither repeats nor leaves out what is there. What was removed before it was
// read is passed over. It is not safe for concurrent use.
type LogReader struct {
	log  *logFile
	live *os.File // what the worker appends to
	pos  int64
	old  *os.File // a rotated file that was read last; nil: none
	span piece    // what old holds
}

// OpenLog opens the log of a worker, given by id or name, where its last lines
// begin; with lines below 0 at the beginning of all that is kept. A line that is
// not finished counts. It reads the log backwards as far as it must and does not
// wait. ErrNotFound: there is no such worker, or its log has been removed. The
// caller closes it. Safe for concurrent use.
func (h *Hive) OpenLog(ref string, lines int) (*LogReader, error) {
	rec, err := h.Worker(ref)
	if err != nil {
		return nil, err
	}
	r, err := h.logs.open(rec)
	if err == nil {
		if err = r.seekLines(lines); err != nil {
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
	return &LogReader{log: f, live: live}, nil
}

// Close closes the files.
func (r *LogReader) Close() {
	r.live.Close()
	if r.old != nil {
		r.old.Close()
	}
}

// Read reads on. io.EOF says that this is the end for now; it can be called
// again when the worker has written more.
func (r *LogReader) Read(p []byte) (int, error) {
	n, at, err := r.readAt(p, r.pos)
	r.pos = at + int64(n)
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// Pending returns how many bytes lie between here and the end. It is an upper
// bound: some of them may be gone when they are read.
func (r *LogReader) Pending() (int64, error) {
	all, err := r.spans()
	if err != nil {
		return 0, err
	}
	live := all[len(all)-1]
	if r.pos > live.end {
		return live.end - live.begin, nil // cut by the worker itself or by somebody else: see readLive
	}
	return live.end - r.pos, nil
}

// spans returns what there is, oldest first; the log itself is the last.
func (r *LogReader) spans() ([]piece, error) {
	r.log.mu.RLock()
	defer r.log.mu.RUnlock()
	fi, err := r.live.Stat()
	if err != nil {
		return nil, err
	}
	all := slices.Clone(r.log.old)
	slices.Reverse(all)
	return append(all, piece{0, r.log.base, r.log.base + fi.Size()}), nil
}

// readAt reads from pos on, or if that is gone from the next place that is not;
// at says where. Nothing and no error: the end for now.
func (r *LogReader) readAt(p []byte, pos int64) (n int, at int64, err error) {
	for {
		if r.old != nil && r.span.begin <= pos && pos < r.span.end {
			n, err = r.old.ReadAt(p[:min(int64(len(p)), r.span.end-pos)], pos-r.span.begin)
			if n > 0 || (err != nil && !errors.Is(err, io.EOF)) {
				return n, pos, noEOF(err)
			}
			pos = r.span.end // somebody has cut it
		}
		var again bool
		if n, pos, again, err = r.locate(p, pos); !again {
			return n, pos, err
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// locate reads from the log itself, or opens the rotated file that holds pos, or
// what comes next after it. No rotation takes place meanwhile.
func (r *LogReader) locate(p []byte, pos int64) (n int, at int64, again bool, err error) {
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
		return 0, max(pos, span.begin), true, nil
	}
	n, at, err = r.readLive(p, max(pos, r.log.base))
	return n, at, false, err
}

func (r *LogReader) readLive(p []byte, pos int64) (n int, at int64, err error) {
	fi, err := r.live.Stat()
	if err != nil {
		return 0, pos, err
	}
	if pos-r.log.base > fi.Size() {
		pos = r.log.base // cut in place by others than hive: what is there now is new
	}
	n, err = r.live.ReadAt(p, pos-r.log.base)
	return n, pos, noEOF(err)
}

// seekLines goes to where the last lines begin.
func (r *LogReader) seekLines(lines int) error {
	all, err := r.spans()
	if err != nil {
		return err
	}
	r.pos = all[len(all)-1].end
	if lines < 0 {
		r.pos = all[0].begin
	}
	all = slices.DeleteFunc(all, func(p piece) bool { return p.begin == p.end })
	last := all[max(0, len(all)-1):]
	block := make([]byte, logBlock)
	for _, span := range slices.Backward(all) {
		for at := span.end; lines > 0 && at > span.begin; at = r.pos {
			part := block[:min(at-span.begin, logBlock)]
			from := at - int64(len(part))
			whole, err := r.fill(part, from)
			if err != nil || !whole { // what is older has just been removed
				return err
			}
			r.pos = from
			for i := len(part) - 1; i >= 0 && lines > 0; i-- {
				if part[i] != '\n' || from+int64(i) == last[0].end-1 {
					continue // the newline that ends the log begins no line
				}
				if lines--; lines == 0 {
					r.pos = from + int64(i) + 1
				}
			}
		}
	}
	return nil
}

// fill reads all of p from a place, and reports whether it is still there.
func (r *LogReader) fill(p []byte, from int64) (whole bool, err error) {
	for len(p) > 0 {
		n, at, err := r.readAt(p, from)
		if err != nil || n == 0 || at != from {
			return false, err
		}
		p, from = p[n:], from+int64(n)
	}
	return true, nil
}

// lastLines returns up to n last lines of a worker's own output, for the error
// of a failed start.
func (l *logs) lastLines(rec store.Worker, n int) []string {
	const most = 16 << 10
	lines := []string{}
	r, err := l.open(rec)
	if err != nil {
		return lines
	}
	defer r.Close()
	end, err := r.Pending() // it stands at 0
	if err != nil {
		return lines
	}
	r.pos = end - most
	raw, _ := io.ReadAll(io.LimitReader(r, most)) // what could be read will do
	for line := range strings.Lines(strings.ToValidUTF8(string(raw), "?")) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && !strings.HasPrefix(line, "--- hive: ") {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}
