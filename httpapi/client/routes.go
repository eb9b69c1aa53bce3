package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
	"unicode/utf8"

	"rbeehive/httpapi/client/api"
	"rbeehive/httpapi/wire"
)

// The methods of this file block until the answer is there, at most 30 s per
// try. Their errors are ErrNotUTF8, *Error, *UnreachableError, ErrNotAHive, ErrTooLarge
// and the cause of ctx.

// jsonType is what the client sends.
const jsonType = "application/json"

// lostWait is how long a submission whose connection broke is sent again: a hive
// that is upgraded is back by then.
const lostWait = 10 * time.Second

// Submit posts an operation: a JSON object with "operation" and its fields.
// The job exists durably when it returns. With an idempotency key (one that is
// made up for this submission; empty: none) the request is sent again, for up to
// 10 s, if the connection broke before the answer was there: it is one job all the
// same.
func (c *Client) Submit(ctx context.Context, key string, operation json.RawMessage) (Reply[wire.Submitted], error) {
	if !utf8.Valid(operation) {
		return Reply[wire.Submitted]{}, fmt.Errorf("the operation %w", ErrNotUTF8)
	}
	away := newOutage(nil)
	var lost time.Time // when a connection broke; zero: none did
	for {
		reply, err := call[wire.Submitted](ctx, c, func(server string) (*http.Request, error) {
			return api.NewSubmitJobRequestWithBody(server, &wire.SubmitJobParams{IdempotencyKey: opt(key)}, jsonType, bytes.NewReader(operation))
		})
		if err == nil || key == "" {
			return reply, err
		}
		// A refusal is an answer, and what was never sent is not lost: the caller is told of both.
		if lost.IsZero() && broke(err) {
			lost = time.Now()
		}
		if lost.IsZero() || time.Since(lost) > lostWait {
			return reply, err
		}
		if err := away.wait(ctx, err); err != nil {
			return reply, err
		}
	}
}

// broke reports whether a request may have been received although no answer to it
// was.
func broke(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return errors.Is(err, ErrUnreachable) && (!ok || op.Op != "dial")
}

// Job returns one job.
func (c *Client) Job(ctx context.Context, id string) (Reply[wire.Job], error) {
	return call[wire.Job](ctx, c, named(id, func(server string) (*http.Request, error) {
		return api.NewGetJobRequest(server, id, nil)
	}))
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
	params := &wire.ListJobsParams{
		State: opt(f.State), Operation: opt(f.Operation), After: opt(f.After), Limit: opt(wire.Limit(max(f.Limit, 0))),
	}
	return call[wire.Jobs](ctx, c, func(server string) (*http.Request, error) {
		return api.NewListJobsRequest(server, params)
	})
}

// Cancel cancels a job. One that has ended is ErrConflict.
func (c *Client) Cancel(ctx context.Context, id string) (Reply[wire.Cancelled], error) {
	return call[wire.Cancelled](ctx, c, named(id, func(server string) (*http.Request, error) {
		return api.NewCancelJobRequest(server, id)
	}))
}

// Workers returns every worker the hive has a record of, dead ones too, by port.
func (c *Client) Workers(ctx context.Context) (Reply[wire.Workers], error) {
	return call[wire.Workers](ctx, c, func(server string) (*http.Request, error) {
		return api.NewListWorkersRequest(server, nil)
	})
}

// Worker returns one worker by id or name.
func (c *Client) Worker(ctx context.Context, ref string) (Reply[wire.Worker], error) {
	return call[wire.Worker](ctx, c, named(ref, func(server string) (*http.Request, error) {
		return api.NewGetWorkerRequest(server, ref)
	}))
}

// Routes returns which models can be asked for, and the workers behind each.
func (c *Client) Routes(ctx context.Context) (Reply[wire.Routes], error) {
	return call[wire.Routes](ctx, c, api.NewListRoutesRequest)
}

// ProveReplica has the listeners of a worker, given by id, proven anew. A worker that is not ready or not
// proven is ErrConflict.
func (c *Client) ProveReplica(ctx context.Context, workerID string) (Reply[wire.Replica], error) {
	return call[wire.Replica](ctx, c, named(workerID, func(server string) (*http.Request, error) {
		return api.NewProveReplicaRequest(server, workerID)
	}))
}

// RemoveWorker removes the record and the log of a worker that has ended.
func (c *Client) RemoveWorker(ctx context.Context, ref string) (Reply[wire.RemovedWorker], error) {
	return call[wire.RemovedWorker](ctx, c, named(ref, func(server string) (*http.Request, error) {
		return api.NewRemoveWorkerRequest(server, ref)
	}))
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
		seq := wire.Seq(after)
		params := &wire.ListWorkerEventsParams{After: &seq}
		page, err := call[rawEvents](ctx, c, named(ref, func(server string) (*http.Request, error) {
			return api.NewListWorkerEventsRequest(server, ref, params)
		}))
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
	params := &wire.GetWorkerLogParams{Follow: opt(wire.Switch(o.Follow))}
	if tail := wire.Tail(o.Tail); tail >= 0 {
		params.Tail = &tail
	}
	resp, err := c.send(ctx, named(ref, func(server string) (*http.Request, error) { //nolint:bodyclose // the caller closes it
		return api.NewGetWorkerLogRequest(server, ref, params)
	}), 0)
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
	// The body names no hive: io.ErrUnexpectedEOF would be all that a person sees.
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.client.transportError(b.ctx, err)
	}
	return n, err
}

// Leases returns every lease, by port.
func (c *Client) Leases(ctx context.Context) (Reply[wire.Leases], error) {
	return call[wire.Leases](ctx, c, func(server string) (*http.Request, error) {
		return api.NewListLeasesRequest(server, nil)
	})
}

// LeasesOf returns the leases that a process holds, by port; there may be none.
func (c *Client) LeasesOf(ctx context.Context, pid int) (Reply[wire.Leases], error) {
	return call[wire.Leases](ctx, c, func(server string) (*http.Request, error) {
		return api.NewListLeasesRequest(server, &wire.ListLeasesParams{PID: &pid})
	})
}

// Lease returns the lease of a port.
func (c *Client) Lease(ctx context.Context, port uint16) (Reply[wire.Lease], error) {
	return call[wire.Lease](ctx, c, func(server string) (*http.Request, error) {
		return api.NewGetLeaseRequest(server, wire.Port(port))
	})
}

// AcquireLease leases a port to a process or for a time.
func (c *Client) AcquireLease(ctx context.Context, req wire.AcquireLease) (Reply[wire.Lease], error) {
	return call[wire.Lease](ctx, c, encoded(req, func(server string, body io.Reader) (*http.Request, error) {
		return api.NewAcquireLeaseRequestWithBody(server, jsonType, body)
	}))
}

// RenewLease renews a lease, or gives it another holder.
func (c *Client) RenewLease(ctx context.Context, port uint16, req wire.RenewLease) (Reply[wire.Lease], error) {
	return call[wire.Lease](ctx, c, encoded(req, func(server string, body io.Reader) (*http.Request, error) {
		return api.NewRenewLeaseRequestWithBody(server, wire.Port(port), jsonType, body)
	}))
}

// ReleaseLease ends a lease. Its port may have to be quarantined, see wire.Released.
func (c *Client) ReleaseLease(ctx context.Context, port uint16, leaseID string) (Reply[wire.Released], error) {
	return call[wire.Released](ctx, c, func(server string) (*http.Request, error) {
		return api.NewReleaseLeaseRequest(server, wire.Port(port), &wire.ReleaseLeaseParams{LeaseID: leaseID})
	})
}

// LastAudit returns what the last audit has found, whoever asked for it.
func (c *Client) LastAudit(ctx context.Context) (Reply[wire.Audit], error) {
	return call[wire.Audit](ctx, c, api.NewGetAuditRequest)
}

// Audit has the hive compare records, processes and listeners now, and with repair act on
// what was found only once.
func (c *Client) Audit(ctx context.Context, repair bool) (Reply[wire.Audit], error) {
	return call[wire.Audit](ctx, c, func(server string) (*http.Request, error) {
		return api.NewRunAuditRequest(server, &wire.RunAuditParams{Repair: opt(wire.Switch(repair))})
	})
}

// Reload has the hive read its configuration again, or with dryRun only say what that would
// change.
func (c *Client) Reload(ctx context.Context, dryRun bool) (Reply[wire.Plan], error) {
	return call[wire.Plan](ctx, c, func(server string) (*http.Request, error) {
		return api.NewReloadRequest(server, &wire.ReloadParams{DryRun: opt(wire.Switch(dryRun))})
	})
}

// Ports returns the port range, as it is at the call.
func (c *Client) Ports(ctx context.Context) (Reply[wire.Ports], error) {
	return call[wire.Ports](ctx, c, api.NewGetPortsRequest)
}

// Hive describes the daemon.
func (c *Client) Hive(ctx context.Context) (Reply[wire.Hive], error) {
	return call[wire.Hive](ctx, c, api.NewGetHiveRequest)
}

// Backup opens a consistent copy of the hive's state file. The caller closes it, and
// must check what it has read: a connection that breaks is an *UnreachableError from
// Read, a hive that fails in the middle cuts it.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	resp, err := c.send(ctx, api.NewGetBackupRequest, 0) //nolint:bodyclose // the caller closes it
	if err != nil {
		return nil, err
	}
	return &logBody{ReadCloser: resp.Body, ctx: ctx, client: c}, nil
}

// Doctor has the hive check itself and its environment.
func (c *Client) Doctor(ctx context.Context) (Reply[wire.Doctor], error) {
	return call[wire.Doctor](ctx, c, api.NewGetDoctorRequest)
}
