package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tmaxmax/go-sse"

	"rbeehive/httpapi/wire"
)

// event is one event as a listener got it.
type event struct {
	id string
	wire.Event
}

// listener reads one stream over as many connections as it takes, as a browser
// does: it knows only the last id.
type listener struct {
	api, path string
	client    *http.Client

	mu          sync.Mutex
	id          string
	seen        []event
	connections int
}

// errOver is a stream to whose end the listener has come.
var errOver = errors.New("over")

// listen reads until the end event, or, of everything, until ctx ends. Its error is
// an answer that no hive may give to a client that comes back.
func (l *listener) listen(ctx context.Context) error {
	for {
		err := l.connect(ctx)
		switch {
		case errors.Is(err, errOver), ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("%s, after id %q: %w", l.path, l.id, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// connect reads one connection. nil: it was cut, or there is no hive, or one that
// recovers.
func (l *listener) connect(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.api+l.path, nil)
	if err != nil {
		return err
	}
	if l.id != "" {
		req.Header.Set("Last-Event-ID", l.id)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return nil //nolint:nilerr // hive is being killed and started: it is tried again
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusServiceUnavailable:
		return nil
	case http.StatusOK:
	default:
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	l.mu.Lock()
	l.connections++
	l.mu.Unlock()
	for raw, err := range sse.Read(resp.Body, &sse.ReadConfig{MaxEventSize: 4 << 20}) {
		if err != nil {
			return nil //nolint:nilerr // cut
		}
		if err := l.take(raw); err != nil {
			return err
		}
	}
	return nil
}

func (l *listener) take(raw sse.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = raw.LastEventID
	if raw.Data == "" {
		return nil // only where it is
	}
	e := event{id: raw.LastEventID}
	if err := json.Unmarshal([]byte(raw.Data), &e.Event); err != nil {
		return fmt.Errorf("event %s: %w", raw.LastEventID, err)
	}
	l.seen = append(l.seen, e)
	if e.Type == "end" && l.path != allPath {
		return errOver
	}
	return nil
}

// allPath is the stream of everything, from the first event on.
const allPath = "/v1/events"

// inOrder demands a job's events 1, 2, 3, ... with end as the last and only one.
func (l *listener) inOrder() error {
	for i, e := range l.seen {
		switch {
		case e.JobSeq == nil || *e.JobSeq != uint64(i+1) || e.id != fmt.Sprint(i+1):
			return fmt.Errorf("%s: event %d has id %s: %s", l.path, i+1, e.id, e.Message)
		case (e.Type == "end") != (i == len(l.seen)-1):
			return fmt.Errorf("%s: event %d of %d is of type %s", l.path, i+1, len(l.seen), e.Type)
		}
	}
	return nil
}

// allInOrder demands everything from the first event to that of number newest. No
// number is given out and not used, and nothing is pruned from under a listener.
func (l *listener) allInOrder(newest uint64) error {
	for i, e := range l.seen {
		if e.Seq != uint64(i+1) || e.id != fmt.Sprint(i+1) {
			return fmt.Errorf("event %d of everything is number %d with id %s: %s", i+1, e.Seq, e.id, e.Message)
		}
	}
	if n := uint64(len(l.seen)); n < newest {
		return fmt.Errorf("a listener to everything has seen %d events of %d", n, newest)
	}
	return nil
}

// crowd is the listeners to everything.
type crowd struct {
	all  []*listener
	errs chan error
}

// listenToAll begins listeners to everything, which end with ctx.
func (s *stage) listenToAll(ctx context.Context, n int) *crowd {
	c := &crowd{errs: make(chan error, n)}
	for range n {
		l := s.listener(allPath)
		c.all = append(c.all, l)
		go func() { c.errs <- l.listen(ctx) }()
	}
	return c
}

func (s *stage) listener(path string) *listener {
	return &listener{api: s.y.API, path: path, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}
