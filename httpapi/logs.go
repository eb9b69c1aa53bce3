package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"rbeehive/hive"
	"rbeehive/httpapi/wire"
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
func (s *Server) workerLogs(w http.ResponseWriter, r *http.Request, ref string, p wire.GetWorkerLogParams) error {
	tail := -1 // all
	if p.Tail != nil {
		tail = int(*p.Tail)
	}
	wkr, err := s.hive.Load().Worker(ref)
	if err != nil {
		return err
	}
	log, err := s.hive.Load().OpenLog(wkr.WorkerID, tail)
	if err != nil {
		return err
	}
	defer log.Close()
	st := openStream(w, "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		return nil
	}
	sender := &logSender{log: log, out: st}
	if !orZero(p.Follow) {
		return sender.pending()
	}
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	return sender.follow(ctx, func() bool { return workerGone(s.hive.Load(), wkr.WorkerID) })
}

func workerGone(h *hive.Hive, id string) bool {
	wkr, err := h.Worker(id)
	return err != nil || wkr.State.Ended()
}

// logSender sends a log.
type logSender struct {
	log   *hive.LogReader
	out   *stream
	block [logBlock]byte
}

// pending sends what is there now: a worker that writes faster than the client
// reads must not make the answer endless.
func (l *logSender) pending() error {
	left, err := l.log.Pending()
	for err == nil && left > 0 {
		var n int
		n, err = l.log.Read(l.block[:min(logBlock, left)])
		left -= int64(n)
		l.out.Write(l.block[:n])
		if l.out.flush() != nil {
			return nil // the client has gone
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read log: %w", err)
	}
	return nil
}

// follow sends what is there and what is added until gone says that nothing
// will be, or ctx ends. The latter is an error, so that the connection is cut
// and the client does not take a part for the whole.
func (l *logSender) follow(ctx context.Context, gone func() bool) error {
	tick := time.NewTicker(logPoll)
	defer tick.Stop()
	for {
		last := gone() // asked before reading: its last words are in the file by then
		if err := l.pending(); err != nil || last {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errShuttingDown
		}
	}
}
