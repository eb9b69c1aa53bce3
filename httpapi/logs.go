package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"rbeehive/hive"
	"rbeehive/hive/logs"
	"rbeehive/httpapi/wire"
)

// logPoll is how often a followed log is polled.
const logPoll = 250 * time.Millisecond

// workerLogs sends a worker's log as it is, also after the worker's death: the
// last ?tail= lines or all of it, and with ?follow= what is added until the
// worker ends.
func (s *Server) workerLogs(w http.ResponseWriter, r *http.Request, ref string, p wire.GetWorkerLogParams) error {
	tail := -1 // all
	if p.Tail != nil {
		tail = int(*p.Tail)
	}
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	wkr, err := s.hive.Load().Worker(ref)
	if err != nil {
		return err
	}
	// By its id from here on: its name may be another worker's before the log ends.
	log, err := s.hive.Load().OpenLog(ctx, wkr.WorkerID, tail)
	if err != nil {
		return err
	}
	defer log.Close()
	st := openStream(w, "text/plain; charset=utf-8")
	defer st.until(ctx)()
	if r.Method == http.MethodHead {
		return nil
	}
	sender := &logSender{log: log, out: st}
	if !orZero(p.Follow) {
		return sender.pending(ctx)
	}
	return sender.follow(ctx, func() bool { return workerGone(s.hive.Load(), wkr.WorkerID) })
}

func workerGone(h *hive.Hive, id string) bool {
	wkr, err := h.Worker(id)
	return err != nil || wkr.State.Ended()
}

// logSender sends a log.
type logSender struct {
	log *logs.Reader
	out *stream
}

// pending sends what is there now: a worker that writes faster than the client
// reads must not make the answer endless.
func (l *logSender) pending(ctx context.Context) error {
	for block, err := range l.log.Rest(ctx) {
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		_, _ = l.out.Write(block) // a buffer takes everything
		if l.out.flush() != nil {
			return ctx.Err() // the client has gone, or the server closes
		}
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
		if err := l.pending(ctx); err != nil || last {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errShuttingDown
		}
	}
}
