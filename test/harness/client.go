package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/tmaxmax/go-sse"

	"rbeehive/httpapi/wire"
)

// ErrUnavailable says that hive is not there, not ready yet, or was killed before its
// response was complete. Whether it has done what was asked is not known.
var ErrUnavailable = errors.New("hive is unavailable")

// Refused is a complete response that is an error.
type Refused struct{ wire.Problem }

func (r *Refused) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Code, r.Detail) }

// callTimeout bounds a request with its response: none here asks hive to wait for
// longer than a minute.
const callTimeout = 100 * time.Second

// Get is Call of GET, without a body.
func (i *Instance) Get(ctx context.Context, path string, into any) error {
	return i.Call(ctx, http.MethodGet, path, nil, into)
}

// Call sends body as JSON, if it is not nil, and reads a JSON response, if into is
// not nil. header is names and values. Its errors are ErrUnavailable and *Refused, and
// ctx's.
func (i *Instance) Call(ctx context.Context, method, path string, body, into any, header ...string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := i.read(ctx, method, path, body, header...)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// Text is a GET of what is not JSON.
func (i *Instance) Text(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := i.read(ctx, http.MethodGet, path, nil)
	return string(raw), err
}

// Stream is a GET of what has no end of its own, or is large. The caller closes the body.
func (i *Instance) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := i.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (i *Instance) read(ctx context.Context, method, path string, body any, header ...string) ([]byte, error) {
	resp, err := i.send(ctx, method, path, body, header...)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readAll(resp)
}

// readAll reads a body to its end, which it may not have.
func readAll(resp *http.Response) ([]byte, error) {
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return raw, nil
}

// send returns a response that is not an error. The caller closes its body.
func (i *Instance) send(ctx context.Context, method, path string, body any, header ...string) (*http.Response, error) {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+i.API+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	for n := 0; n < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err := i.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	if raw, err = readAll(resp); err != nil {
		return nil, err
	}
	refused := &Refused{}
	if err := json.Unmarshal(raw, &refused.Problem); err != nil {
		refused.Detail = string(raw) // without a code, which no caller expects
	}
	if refused.Status = resp.StatusCode; resp.StatusCode == http.StatusServiceUnavailable {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, refused)
	}
	return nil, refused
}

// Event is one event of a stream, with its id. One without a type only says where in
// the stream the reader is.
type Event struct {
	ID string
	wire.Event
}

// Events reads a stream over one connection, from behind the event of id after, which
// is empty to begin with the first. It ends with the connection, or with an error of
// Call's or of an event that is not one.
func (i *Instance) Events(ctx context.Context, path, after string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var header []string
		if after != "" {
			header = []string{"Last-Event-ID", after}
		}
		resp, err := i.send(ctx, http.MethodGet, path, nil, header...)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer resp.Body.Close()
		for raw, err := range sse.Read(resp.Body, &sse.ReadConfig{MaxEventSize: 4 << 20}) {
			e := Event{ID: raw.LastEventID}
			switch {
			case err != nil:
				err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			case raw.Data != "":
				if err = json.Unmarshal([]byte(raw.Data), &e.Event); err != nil {
					err = fmt.Errorf("event %s: %w", e.ID, err)
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
