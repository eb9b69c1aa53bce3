package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/tmaxmax/go-sse"

	"rbeehive/httpapi/client/api"
	"rbeehive/httpapi/wire"
)

// maxEvent bounds one server-sent event, in bytes: an event carries at most a
// job's request or result, which come from bodies of at most 1 MiB.
const maxEvent = 4 << 20

// pollInterval is how often a job is asked for when its events cannot be had.
const pollInterval = time.Second

// eventEnd is the type of the last event of a job.
const eventEnd = "end"

// errCut is a stream that ended before what it tells of did.
var errCut = errors.New("the stream ended before the job")

// FollowOptions says where to begin and whom to tell about an outage.
type FollowOptions struct {
	// After is the number, in the job, of the last event already seen; 0: from the beginning.
	After uint64
	// OnWait is called once per outage, before the first wait, on the caller's
	// goroutine; may be nil. Away(err) is true.
	OnWait func(error)
}

// JobEnded reports whether a job in this state will not change any more.
func JobEnded(state string) bool {
	return state == "succeeded" || state == "failed" || state == "cancelled"
}

// WorkerEnded reports whether a worker in this state has no process any more.
func WorkerEnded(state string) bool { return state == "stopped" || state == "failed" }

// WithoutWorker leaves out of what is wanted what has a living worker already: that one says
// more.
func WithoutWorker(wanted []wire.Wanted, workers []wire.Worker) []wire.Wanted {
	return slices.DeleteFunc(slices.Clone(wanted), func(v wire.Wanted) bool {
		return slices.ContainsFunc(workers, func(w wire.Worker) bool { return w.Type == v.Name && !WorkerEnded(w.State) })
	})
}

// Follow yields the events of a job up to and including its end event, each
// once and in order. It blocks while nothing happens, and reconnects, with
// Last-Event-ID, for as long as ctx allows when the daemon goes away or
// recovers. It ends with an error that trying again cannot mend: an *Error
// (ErrNotFound, ...) or the cause of ctx.
func (c *Client) Follow(ctx context.Context, jobID string, o FollowOptions) iter.Seq2[Reply[wire.Event], error] {
	f := &follower{client: c, what: jobID, last: eventEnd, outage: newOutage(o.OnWait)}
	if o.After > 0 {
		f.after = strconv.FormatUint(o.After, 10)
	}
	f.request = func(id *string) build {
		return named(jobID, func(server string) (*http.Request, error) {
			return api.NewFollowJobRequest(server, jobID, &wire.FollowJobParams{LastEventID: id})
		})
	}
	return f.follow(ctx)
}

// FollowAllOptions says where FollowAll begins, and whom to tell about an outage.
type FollowAllOptions struct {
	// After is the sequence number of the last event already seen, or "latest": only
	// what is new; empty: from the oldest that is kept.
	After string
	// Types are the types of event that are wanted; none: all.
	Types []string
	// OnWait is called once per outage, before the first wait, on the caller's
	// goroutine; may be nil. Away(err) is true.
	OnWait func(error)
	// OnConnect is called for each connection, on the caller's goroutine; may be nil. From then on
	// nothing that happens is missed.
	OnConnect func()
}

// FollowAll yields everything that happens in the hive, each event once and in
// order. It blocks and reconnects as Follow does, and never ends by itself. Its
// errors are Follow's, and ErrEventsGone: events that were not yielded have been
// removed, or the number is not of this hive.
func (c *Client) FollowAll(ctx context.Context, o FollowAllOptions) iter.Seq2[Reply[wire.Event], error] {
	f := &follower{client: c, what: "the hive", outage: newOutage(o.OnWait), connected: o.OnConnect}
	f.request = func(id *string) build {
		return func(server string) (*http.Request, error) {
			params := &wire.FollowHiveParams{LastEventID: id, After: opt(o.After), Type: opt(strings.Join(o.Types, ","))}
			return api.NewFollowHiveRequest(server, params)
		}
	}
	return f.follow(ctx)
}

// follower is one stream of events: where it is and how its present outage goes.
type follower struct {
	client  *Client
	what    string                 // for errors
	request func(id *string) build // resumes behind an id; nil: none was seen
	after   string                 // the id of the last event; empty: none was seen
	last    string                 // the type of the event that ends it; empty: none does
	outage  *outage

	connected func() // may be nil
}

// follow yields events over all connections that it takes.
func (f *follower) follow(ctx context.Context) iter.Seq2[Reply[wire.Event], error] {
	return func(yield func(Reply[wire.Event], error) bool) {
		for {
			err := f.stream(ctx, func(e Reply[wire.Event]) bool { return yield(e, nil) })
			if err == nil {
				return
			}
			if err := f.outage.wait(ctx, err); err != nil {
				yield(Reply[wire.Event]{}, err)
				return
			}
		}
	}
}

// stream reads one connection. nil: there is nothing more to come, or the
// consumer wants no more.
func (f *follower) stream(ctx context.Context, each func(Reply[wire.Event]) bool) error {
	open := f.request(opt(f.after))
	// Not send: to wait for a recovery, and to tell about it, is the outage's.
	resp, err := f.client.once(ctx, func(server string) (*http.Request, error) {
		req, err := open(server)
		if err == nil {
			req.Header.Set("Accept", "text/event-stream")
		}
		return req, err
	}, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// By the specification of server-sent events: do not connect again.
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	// Anything else would look like a stream that ends again and again.
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "text/event-stream" {
		return fmt.Errorf("%w: %s answers %s with %q instead of events", ErrNotAHive, f.client.Addr(), resp.Request.URL.Path, media)
	}
	f.outage.reached()
	if f.connected != nil {
		f.connected()
	}
	for event, err := range sse.Read(resp.Body, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("event of %s: %w (more than %d bytes)", f.what, ErrTooLarge, maxEvent)
		}
		if err != nil {
			return f.client.transportError(ctx, err)
		}
		more, err := f.deliver(event, each)
		if err != nil || !more {
			return err
		}
	}
	// A clean end of the body without a last event is a daemon that shuts down.
	return f.client.transportError(ctx, errCut)
}

// deliver delivers one event and reports whether more are wanted.
func (f *follower) deliver(raw sse.Event, each func(Reply[wire.Event]) bool) (bool, error) {
	f.outage.progress()
	// A server that replays more than was asked for must not make a line appear twice.
	again := !f.newer(raw.LastEventID)
	if !again && raw.LastEventID != "" {
		f.after = raw.LastEventID
	}
	if raw.Type == "" && raw.Data == "" { // only where we are
		return true, nil
	}
	event, err := decodeEvent(json.RawMessage(raw.Data))
	if err != nil {
		return false, err
	}
	if !again && !each(event) {
		return false, nil
	}
	return f.last == "" || raw.Type != f.last, nil
}

// newer reports whether an id is behind that of the last event. What is no number
// cannot be compared, and counts as new.
func (f *follower) newer(id string) bool {
	is, err := strconv.ParseUint(id, 10, 64)
	was, none := strconv.ParseUint(f.after, 10, 64)
	return err != nil || none != nil || is > was
}

func decodeEvent(raw json.RawMessage) (Reply[wire.Event], error) {
	event := Reply[wire.Event]{Raw: raw}
	if err := json.Unmarshal(raw, &event.Value); err != nil {
		return event, fmt.Errorf("decode an event: %w", err)
	}
	return event, nil
}

// WaitJob follows a job, calls each for every event, and returns the job once
// it has ended. Like Follow it survives restarts of the daemon; events that
// were pruned meanwhile are missing, the end is not. Blocks as Follow does.
func (c *Client) WaitJob(ctx context.Context, jobID string, o FollowOptions, each func(Reply[wire.Event])) (Reply[wire.Job], error) {
	for {
		for event, err := range c.Follow(ctx, jobID, o) {
			// Events that were pruned cannot be had any more; how the job stands can.
			if errors.Is(err, ErrEventsGone) {
				break
			}
			if err != nil {
				return Reply[wire.Job]{}, err
			}
			if n := event.Value.JobSeq; n != nil {
				// Where the next Follow begins, or it would bring all events again.
				o.After = max(o.After, *n)
			}
			each(event)
		}
		job, err := c.persistentJob(ctx, jobID, o.OnWait)
		if err != nil || JobEnded(job.Value.State) {
			return job, err
		}
		// Without events it is asked for now and then, and its later events are followed.
		if err := sleep(ctx, pollInterval); err != nil {
			return job, err
		}
	}
}

// persistentJob is Job that waits for a daemon which is away.
func (c *Client) persistentJob(ctx context.Context, id string, onWait func(error)) (Reply[wire.Job], error) {
	away := newOutage(onWait)
	for {
		job, err := c.Job(ctx, id)
		if err == nil {
			return job, nil
		}
		if err := away.wait(ctx, err); err != nil {
			return job, err
		}
	}
}

// outage paces the tries while the daemon is away, and tells about it once.
type outage struct {
	pace      *backoff.ExponentialBackOff
	onWait    func(error)
	connected bool // the last try got a stream
	reported  bool
}

func newOutage(onWait func(error)) *outage {
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval = 100 * time.Millisecond
	pace.MaxInterval = 2 * time.Second
	pace.Reset()
	return &outage{pace: pace, onWait: onWait}
}

// reached ends the outage: the next one is reported again. The pace is kept until something
// came through, so that a daemon which accepts and hangs up is not hammered.
func (o *outage) reached() { o.connected, o.reported = true, false }

// progress makes the next try a quick one.
func (o *outage) progress() { o.pace.Reset() }

// wait sleeps before the next try. It returns the error that another try
// cannot mend, or the cause of ctx.
func (o *outage) wait(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !Away(err) {
		return err
	}
	pause := o.pace.NextBackOff()
	var refused *Error
	if errors.As(err, &refused) {
		// A hive that is there says itself when to come again.
		pause = recoveryPause(refused)
	}
	// A connection that was only cut is tried once before anybody hears of it.
	cut := o.connected
	o.connected = false
	if !cut && !o.reported {
		o.reported = true
		if o.onWait != nil {
			o.onWait(err)
		}
	}
	return sleep(ctx, pause)
}
