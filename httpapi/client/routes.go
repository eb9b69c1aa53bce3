package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"rbeehive/httpapi/wire"
)

// The methods of this file block until the answer is there, at most 30 s per
// try. Their errors are *Error, *UnreachableError, ErrNotAHive, ErrTooLarge
// and the cause of ctx.

// Submit posts an operation: a JSON object with "operation" and its fields.
// The job exists durably when it returns.
func (c *Client) Submit(ctx context.Context, operation json.RawMessage) (Reply[wire.Submitted], error) {
	return call[wire.Submitted](ctx, c, request{method: http.MethodPost, path: "/v1/jobs", body: operation})
}

// Job returns one job.
func (c *Client) Job(ctx context.Context, id string) (Reply[wire.Job], error) {
	return call[wire.Job](ctx, c, get("/v1/jobs/"+url.PathEscape(id), nil))
}

// JobFilter selects jobs; the zero value selects the newest 100.
type JobFilter struct {
	State     string
	Operation string
	Limit     int    // 0: the server's default
	After     string // "next" of the page before
}

// Jobs returns one page of jobs, newest first.
func (c *Client) Jobs(ctx context.Context, f JobFilter) (Reply[wire.Jobs], error) {
	query := url.Values{}
	for name, value := range map[string]string{"state": f.State, "operation": f.Operation, "after": f.After} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	return call[wire.Jobs](ctx, c, get("/v1/jobs", query))
}

// Cancel cancels a job. One that has ended is ErrConflict.
func (c *Client) Cancel(ctx context.Context, id string) (Reply[wire.Cancelled], error) {
	return call[wire.Cancelled](ctx, c, request{method: http.MethodDelete, path: "/v1/jobs/" + url.PathEscape(id)})
}

// Workers returns every worker the hive has a record of, dead ones too, by port.
func (c *Client) Workers(ctx context.Context) (Reply[wire.Workers], error) {
	return call[wire.Workers](ctx, c, get("/v1/workers", nil))
}

// Worker returns one worker by id or name.
func (c *Client) Worker(ctx context.Context, ref string) (Reply[wire.Worker], error) {
	return call[wire.Worker](ctx, c, get("/v1/workers/"+url.PathEscape(ref), nil))
}

// rawEvents is wire.Events with the events as they were sent.
type rawEvents struct {
	Events []json.RawMessage `json:"events"`
}

// WorkerEvents returns the events of a worker with a sequence number above
// after, oldest first. It asks for as many pages as there are.
func (c *Client) WorkerEvents(ctx context.Context, ref string, after uint64) ([]Reply[wire.Event], error) {
	var events []Reply[wire.Event]
	for {
		query := url.Values{"after": {strconv.FormatUint(after, 10)}}
		page, err := call[rawEvents](ctx, c, get("/v1/workers/"+url.PathEscape(ref)+"/events", query))
		if err != nil {
			return nil, err
		}
		last := after
		for _, raw := range page.Value.Events {
			event, err := decodeEvent(raw)
			if err != nil {
				return nil, err
			}
			events = append(events, event)
			last = max(last, event.Value.Seq)
		}
		// A page that brings nothing newer is the last one, whatever a server does with "after".
		if last == after {
			return events, nil
		}
		after = last
	}
}

// LogOptions says which part of a log is wanted.
type LogOptions struct {
	Tail   int  // the last lines; negative: all
	Follow bool // go on while the worker lives
}

// WorkerLog opens the log of a worker as text. The caller closes it; reading
// blocks while Follow waits for more. A connection that breaks is an
// *UnreachableError from Read; a log that is complete ends with io.EOF.
func (c *Client) WorkerLog(ctx context.Context, ref string, o LogOptions) (io.ReadCloser, error) {
	query := url.Values{}
	if o.Tail >= 0 {
		query.Set("tail", strconv.Itoa(o.Tail))
	}
	if o.Follow {
		query.Set("follow", "1")
	}
	resp, err := c.send(ctx, get("/v1/workers/"+url.PathEscape(ref)+"/logs", query), 0) //nolint:bodyclose // the caller closes it
	if err != nil {
		return nil, err
	}
	return &logBody{ReadCloser: resp.Body, ctx: ctx, client: c}, nil
}

// logBody names the daemon when the connection breaks.
type logBody struct {
	io.ReadCloser
	ctx    context.Context
	client *Client
}

func (b *logBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.client.transportError(b.ctx, err)
	}
	return n, err
}

// Leases returns every lease, by port.
func (c *Client) Leases(ctx context.Context) (Reply[wire.Leases], error) {
	return call[wire.Leases](ctx, c, get("/v1/leases", nil))
}

// Lease returns the lease of a port.
func (c *Client) Lease(ctx context.Context, port uint16) (Reply[wire.Lease], error) {
	return call[wire.Lease](ctx, c, get(leasePath(port), nil))
}

// AcquireLease leases a port to a process or for a time.
func (c *Client) AcquireLease(ctx context.Context, req wire.AcquireLease) (Reply[wire.Lease], error) {
	body, err := json.Marshal(req)
	if err != nil {
		return Reply[wire.Lease]{}, err
	}
	return call[wire.Lease](ctx, c, request{method: http.MethodPost, path: "/v1/leases", body: body})
}

// RenewLease renews a lease, or gives it another holder.
func (c *Client) RenewLease(ctx context.Context, port uint16, req wire.RenewLease) (Reply[wire.Lease], error) {
	body, err := json.Marshal(req)
	if err != nil {
		return Reply[wire.Lease]{}, err
	}
	return call[wire.Lease](ctx, c, request{method: http.MethodPut, path: leasePath(port), body: body})
}

// ReleaseLease ends a lease. Its port may have to be quarantined, see wire.Released.
func (c *Client) ReleaseLease(ctx context.Context, port uint16, leaseID string) (Reply[wire.Released], error) {
	return call[wire.Released](ctx, c, request{method: http.MethodDelete, path: leasePath(port), query: url.Values{"lease_id": {leaseID}}})
}

func leasePath(port uint16) string { return "/v1/leases/" + strconv.Itoa(int(port)) }

// Audit has the hive compare records, processes and listeners now, and with repair
// do what a second sighting allows.
func (c *Client) Audit(ctx context.Context, repair bool) (Reply[wire.Audit], error) {
	query := url.Values{}
	if repair {
		query.Set("repair", "1")
	}
	return call[wire.Audit](ctx, c, request{method: http.MethodPost, path: "/v1/audit", query: query})
}

// Reload has the hive read its configuration afresh, or with dryRun only say what
// that would change.
func (c *Client) Reload(ctx context.Context, dryRun bool) (Reply[wire.Plan], error) {
	query := url.Values{}
	if dryRun {
		query.Set("dry_run", "1")
	}
	return call[wire.Plan](ctx, c, request{method: http.MethodPost, path: "/v1/reload", query: query})
}

// Ports returns the port range, looked at by the hive when asked.
func (c *Client) Ports(ctx context.Context) (Reply[wire.Ports], error) {
	return call[wire.Ports](ctx, c, get("/v1/ports", nil))
}

// Hive describes the daemon.
func (c *Client) Hive(ctx context.Context) (Reply[wire.Hive], error) {
	return call[wire.Hive](ctx, c, get("/v1/hive", nil))
}

// Doctor has the hive look at itself and at the place it runs in.
func (c *Client) Doctor(ctx context.Context) (Reply[wire.Doctor], error) {
	return call[wire.Doctor](ctx, c, get("/v1/doctor", nil))
}
