package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tmaxmax/go-sse"

	"rbeehive/hive/journal"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// keepAlive is how often an event stream carries a comment, so that proxies and
// clients can tell a quiet job from a dead connection.
const keepAlive = 15 * time.Second

// maxUnsent is how many bytes of events are collected before they are sent, when
// more of them are there already.
const maxUnsent = 64 << 10

// jobEvents is the job's story as server-sent events (WHATWG HTML, section
// 9.2). The id of an event is its number in the job; a client that comes back with
// it gets what follows, also after a restart of the hive.
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
	out := &sender{stream: st, number: jobNumber}
	var sent error
	if first != nil {
		sent = out.event(*first)
	}
	if sent == nil {
		sent = out.send(f)
	}
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

// allEvents is everything of this hive as server-sent events. The id of an event is
// its number in the hive. It ends only with the server.
func (s *Server) allEvents(w http.ResponseWriter, r *http.Request, p wire.FollowHiveParams) error {
	start, err := feedStart(p)
	if err != nil {
		return err
	}
	wanted, err := eventTypes(orZero(p.Type))
	if err != nil {
		return err
	}
	var behind uint64
	var replayed bool
	f, err := s.followWith(r, func(ctx context.Context) (seq iter.Seq2[store.Event, error], err error) {
		seq, behind, replayed, err = s.hive.Load().Events(ctx, start)
		return seq, err
	})
	if err != nil {
		return err
	}
	st := openStream(w, "text/event-stream")
	if r.Method == http.MethodHead {
		return f.stop()
	}
	out := &sender{stream: st, number: hiveNumber, wanted: wanted}
	if !replayed {
		// A client that is cut before its first event comes back with this, and not
		// with nothing, which would mean all or none of what happened meanwhile.
		out.place(behind)
	}
	sent := out.send(f)
	if err := f.stop(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return sent
}

// feedStart is where a stream of everything begins. Absent is not 0: who has seen
// nothing is told if something was removed, who does not say begins with what is kept.
func feedStart(p wire.FollowHiveParams) (journal.Start, error) {
	after, field, expected := orZero(p.LastEventID), "Last-Event-ID", "the number of an event is expected"
	if after == "" {
		after, field, expected = orZero(p.After), "after", expected+", or latest"
		if after == "latest" {
			return journal.Start{Latest: true}, nil
		}
	}
	if after == "" {
		return journal.Start{Oldest: true}, nil
	}
	var seq wire.Seq
	if seq.Bind(after) != nil {
		return journal.Start{}, badField(field, expected)
	}
	return journal.Start{After: uint64(seq)}, nil
}

// eventTypes reads ?type=, types of events separated by commas; nil is all.
func eventTypes(text string) (map[store.EventType]bool, error) {
	if text == "" {
		return nil, nil
	}
	wanted := map[store.EventType]bool{}
	for name := range strings.SplitSeq(text, ",") {
		typ := store.EventType(name)
		if !slices.Contains(store.EventTypes(), typ) {
			return nil, badField("type", fmt.Sprintf("one or more of %v, separated by commas, are expected", store.EventTypes()))
		}
		wanted[typ] = true
	}
	return wanted, nil
}

// resumeAt is the number in the job after which to go on. The header wins: a
// browser that reconnects sends it along with the URL it began with.
func resumeAt(p wire.FollowJobParams) (uint64, error) {
	after := orZero(p.After)
	if id := orZero(p.LastEventID); id != "" {
		if err := after.Bind(id); err != nil {
			return 0, badField("Last-Event-ID", err.Error())
		}
	}
	return uint64(after), nil
}

// jobNumber and hiveNumber are the two ids that an event can have.
func jobNumber(ev store.Event) uint64 { return ev.JobSeq }

func hiveNumber(ev store.Event) uint64 { return ev.Seq }

// sender writes events to a stream.
type sender struct {
	*stream
	number  func(store.Event) uint64 // the id of an event
	wanted  map[store.EventType]bool // nil: all
	skipped uint64                   // the last event, if it was not wanted
}

// send sends events until there are no more or the client has gone; the latter is
// not an error.
func (s *sender) send(f *follower) error {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		if (len(f.events) == 0 || s.Len() >= maxUnsent) && s.flush() != nil {
			return nil
		}
		select {
		case ev, ok := <-f.events:
			if !ok {
				_ = s.flush()
				return nil
			}
			if err := s.event(ev); err != nil {
				return err
			}
		case <-tick.C:
			_, _ = s.WriteString(": keep-alive\n\n") // a buffer takes everything
			if s.skipped > 0 {
				s.place(s.skipped)
			}
		}
	}
}

// event writes one event, if it is wanted.
func (s *sender) event(ev store.Event) error {
	if s.wanted != nil && !s.wanted[ev.Type] {
		s.skipped = s.number(ev)
		return nil
	}
	s.skipped = 0
	data, err := json.Marshal(eventShape(ev))
	if err != nil {
		return fmt.Errorf("encode event %d: %w", ev.Seq, err)
	}
	typ, err := sse.NewType(string(ev.Type))
	if err != nil {
		return fmt.Errorf("encode event %d: %w", ev.Seq, err)
	}
	msg := sse.Message{ID: sse.ID(strconv.FormatUint(s.number(ev), 10)), Type: typ}
	msg.AppendData(string(data))
	_, err = msg.WriteTo(&s.Buffer)
	return err
}

// place tells where the client is, without an event (WHATWG HTML, 9.2.6: the last
// event id is set even if there is no data to dispatch).
func (s *sender) place(number uint64) {
	s.skipped = 0
	fmt.Fprintf(s, "id: %d\n\n", number)
}
