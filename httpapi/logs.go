package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"rbeehive/hive"
)

const (
	// logPoll is how often a followed log is looked at.
	logPoll = 250 * time.Millisecond
	// logBlock is how much of a log is in memory at once.
	logBlock = 32 << 10
)

// workerLogs sends a worker's log as it is, also after the worker's death: the
// last ?tail= lines or all of it, and with ?follow= what is added until the
// worker ends.
func (s *Server) workerLogs(w http.ResponseWriter, r *http.Request) error {
	follow, err := queryBool(r, "follow")
	if err != nil {
		return err
	}
	tail, err := queryTail(r)
	if err != nil {
		return err
	}
	wkr, err := s.hive.Load().Worker(pathVar(r, "ref"))
	if err != nil {
		return err
	}
	file, err := openLog(wkr.Log)
	if err != nil {
		return fmt.Errorf("log of %s: %w", wkr.WorkerID, err)
	}
	defer file.Close()
	offset, size, err := tailOffset(file, tail)
	if err != nil {
		return fmt.Errorf("log of %s: %w", wkr.WorkerID, err)
	}
	st := openStream(w, "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		return nil
	}
	lr := &logReader{file: file, offset: offset, out: st}
	if !follow {
		return lr.copyTo(size)
	}
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	return lr.follow(ctx, func() bool { return workerGone(s.hive.Load(), wkr.WorkerID) })
}

// queryTail reads ?tail=; -1 when absent: all lines.
func queryTail(r *http.Request) (int, error) {
	text := r.URL.Query().Get("tail")
	if text == "" {
		return -1, nil
	}
	tail, err := strconv.Atoi(text)
	if err != nil || tail < 0 {
		return 0, badField("tail", "a number of lines from 0 is expected")
	}
	return tail, nil
}

func workerGone(h *hive.Hive, id string) bool {
	wkr, err := h.Worker(id)
	return err != nil || wkr.State.Ended()
}

// openLog opens the recorded path and nothing it may have been replaced by: a
// symbolic link would show any file that hive may read, and opening a fifo
// would hang.
func openLog(path string) (*os.File, error) {
	before, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the file is gone", hive.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	after, err := file.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s was replaced while it was opened", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// tailOffset finds where the last lines begin, and the file's size. A line that
// is not finished counts.
func tailOffset(file *os.File, lines int) (offset, size int64, err error) {
	size, err = file.Seek(0, io.SeekEnd)
	if err != nil || lines < 0 {
		return 0, size, err
	}
	if lines == 0 {
		return size, size, nil
	}
	block := make([]byte, logBlock)
	for end := size; end > 0; {
		n := min(end, int64(len(block)))
		begin := end - n
		if _, err := file.ReadAt(block[:n], begin); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if block[i] != '\n' || begin+i == size-1 {
				continue // the newline that ends the file begins no line
			}
			if lines--; lines == 0 {
				return begin + i + 1, size, nil
			}
		}
		end = begin
	}
	return 0, size, nil
}

// logReader sends a file from offset on.
type logReader struct {
	file   *os.File
	offset int64
	out    *stream
	block  [logBlock]byte
}

// copyTo sends what lies before end: a worker that writes faster than the client
// reads must not make the answer endless.
func (l *logReader) copyTo(end int64) error {
	for l.offset < end {
		n, err := l.file.ReadAt(l.block[:min(int64(len(l.block)), end-l.offset)], l.offset)
		l.offset += int64(n)
		l.out.Write(l.block[:n])
		if l.out.flush() != nil {
			return nil // the client has gone
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
	}
	return nil
}

// follow sends what is there and what is added until gone says that nothing
// will be, or ctx ends. The latter is an error, so that the connection is cut
// and the client does not take a part for the whole.
func (l *logReader) follow(ctx context.Context, gone func() bool) error {
	tick := time.NewTicker(logPoll)
	defer tick.Stop()
	for {
		last := gone() // asked before reading: its last words are in the file by then
		info, err := l.file.Stat()
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if info.Size() < l.offset {
			l.offset = 0 // truncated in place, as logrotate's copytruncate does
		}
		if err := l.copyTo(info.Size()); err != nil || last {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errShuttingDown
		}
	}
}
