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
	"strconv"
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

// errCut is a stream that ended before its job did.
var errCut = errors.New("the stream ended before the job")

// FollowOptions says where to begin and whom to tell about an outage.
type FollowOptions struct {
	// After is the sequence number of the last event already seen; 0: from the beginning.
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

// Follow yields the events of a job up to and including its end event, each
// once and in order. It blocks while nothing happens, and reconnects, with
// Last-Event-ID, for as long as ctx allows when the daemon goes away or
// recovers. It ends with an error that trying again cannot mend: an *Error
// (ErrNotFound, ErrEventsGone, ...) or the cause of ctx.
func (c *Client) Follow(ctx context.Context, jobID string, o FollowOptions) iter.Seq2[Reply[wire.Event], error] {
	return func(yield func(Reply[wire.Event], error) bool) {
		f := &follower{client: c, job: jobID, after: o.After, outage: newOutage(o.OnWait)}
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

// follower is one Follow: where it is and how its present outage goes.
type follower struct {
	client *Client
	job    string
	after  uint64
	outage *outage
}

// stream reads one connection. nil: there is nothing more to come, or the
// consumer wants no more.
func (f *follower) stream(ctx context.Context, each func(Reply[wire.Event]) bool) error {
	params := &wire.FollowJobParams{}
	if f.after > 0 {
		params.LastEventID = opt(strconv.FormatUint(f.after, 10))
	}
	resp, err := f.client.once(ctx, named(f.job, func(server string) (*http.Request, error) {
		req, err := api.NewFollowJobRequest(server, f.job, params)
		if err == nil {
			req.Header.Set("Accept", "text/event-stream")
		}
		return req, err
	}), 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	// Anything else would look like a stream that ends again and again.
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "text/event-stream" {
		return fmt.Errorf("%w: %s answers %s with %q instead of events", ErrNotAHive, f.client.opts.Addr, resp.Request.URL.Path, media)
	}
	f.outage.reached()
	for event, err := range sse.Read(resp.Body, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("event of %s: %w (more than %d bytes)", f.job, ErrTooLarge, maxEvent)
		}
		if err != nil {
			return f.client.transportError(ctx, err)
		}
		more, err := f.take(event, each)
		if err != nil || !more {
			return err
		}
	}
	// A clean end of the body without an end event is a daemon that shuts down.
	return f.client.transportError(ctx, errCut)
}

// take hands one event over and says whether more are wanted.
func (f *follower) take(raw sse.Event, each func(Reply[wire.Event]) bool) (bool, error) {
	event, err := decodeEvent(json.RawMessage(raw.Data))
	if err != nil {
		return false, err
	}
	f.outage.progress()
	// A server that replays more than was asked for must not make a line appear twice.
	if event.Value.Seq > f.after || event.Value.Seq == 0 {
		f.after = max(f.after, event.Value.Seq)
		if !each(event) {
			return false, nil
		}
	}
	return raw.Type != eventEnd, nil
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
			if errors.Is(err, ErrEventsGone) {
				break
			}
			if err != nil {
				return Reply[wire.Job]{}, err
			}
			o.After = max(o.After, event.Value.Seq)
			each(event)
		}
		job, err := c.persistentJob(ctx, jobID, o.OnWait)
		if err != nil || JobEnded(job.Value.State) {
			return job, err
		}
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
	told      bool
}

func newOutage(onWait func(error)) *outage {
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval = 100 * time.Millisecond
	pace.MaxInterval = 2 * time.Second
	pace.Reset()
	return &outage{pace: pace, onWait: onWait}
}

// reached ends the outage: the next one is told about again. The pace is kept
// until something came through, so that a daemon which accepts and hangs up is
// not hammered.
func (o *outage) reached() { o.connected, o.told = true, false }

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
		pause = recoveryPause(refused)
	}
	// A connection that was only cut is tried once before anybody hears of it.
	cut := o.connected
	o.connected = false
	if !cut && !o.told {
		o.told = true
		if o.onWait != nil {
			o.onWait(err)
		}
	}
	return sleep(ctx, pause)
}
