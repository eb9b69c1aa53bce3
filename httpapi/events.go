package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tmaxmax/go-sse"

	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// keepAlive is how often an event stream carries a comment, so that proxies and
// clients can tell a quiet job from a dead connection.
const keepAlive = 15 * time.Second

// jobEvents is the job's story as server-sent events (WHATWG HTML, section
// 9.2). The id of an event is its number; a client that comes back with it gets
// what follows, also after a restart of the hive.
func (s *Server) jobEvents(w http.ResponseWriter, r *http.Request, id string, p wire.FollowJobParams) error {
	after, err := resumeAt(p)
	if err != nil {
		return err
	}
	job, err := s.hive.Load().Job(id)
	if err != nil {
		return err
	}
	f, err := s.follow(r, id, after)
	if err != nil {
		return err
	}
	var first *store.Event
	if job.State.Ended() {
		// A browser's EventSource comes back after every end of a stream, for
		// ever; 204 is the only answer that stops it.
		ev, ok := <-f.events
		if !ok {
			return noMoreEvents(w, f.stop())
		}
		first = &ev
	}
	st := openStream(w, "text/event-stream")
	if r.Method == http.MethodHead {
		return f.stop()
	}
	sent := sendEvents(st, f, first)
	if err := f.stop(); err != nil {
		return fmt.Errorf("read events of %s: %w", id, err)
	}
	return sent
}

func noMoreEvents(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// resumeAt is the number after which to go on. The header wins: a browser that
// reconnects sends it along with the URL it began with.
func resumeAt(p wire.FollowJobParams) (uint64, error) {
	after := orZero(p.After)
	if id := orZero(p.LastEventID); id != "" {
		if err := after.Bind(id); err != nil {
			return 0, badField("Last-Event-ID", err.Error())
		}
	}
	return uint64(after), nil
}

// sendEvents sends events until there are no more or the client has gone; the
// latter is not an error.
func sendEvents(st *stream, f *follower, first *store.Event) error {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	if first != nil {
		if err := appendSSE(st, *first); err != nil {
			return err
		}
	}
	for {
		if len(f.events) == 0 && st.flush() != nil {
			return nil
		}
		select {
		case ev, ok := <-f.events:
			if !ok {
				_ = st.flush()
				return nil
			}
			if err := appendSSE(st, ev); err != nil {
				return err
			}
		case <-tick.C:
			st.WriteString(": keep-alive\n\n")
		}
	}
}

// appendSSE writes one event.
func appendSSE(st *stream, ev store.Event) error {
	data, err := json.Marshal(eventShape(ev))
	if err != nil {
		return fmt.Errorf("encode event %d: %w", ev.Seq, err)
	}
	msg := sse.Message{ID: sse.ID(strconv.FormatUint(ev.Seq, 10)), Type: sse.Type(string(ev.Type))}
	msg.AppendData(string(data))
	_, err = msg.WriteTo(&st.Buffer)
	return err
}
