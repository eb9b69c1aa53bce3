package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rbeehive/test/harness"
)

// listener reads one stream over as many connections as it takes, as a browser does: it
// knows only the last id.
type listener struct {
	*run
	path string

	mu     sync.Mutex
	id     string
	events []harness.Event
}

// listen reads until the end event, or, of all events, until ctx ends. Its error is a
// response that no hive may give to a client that comes back.
func (l *listener) listen(ctx context.Context) error {
	for {
		ended, err := l.connect(ctx)
		switch {
		case ended || ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, harness.ErrUnavailable):
			return fmt.Errorf("%s, after id %q: %w", l.path, l.id, err)
		}
		harness.Sleep(ctx, 10*time.Millisecond)
	}
}

// connect reads one connection, and reports whether the end event has come.
func (l *listener) connect(ctx context.Context) (ended bool, err error) {
	connected := false
	for e, err := range l.hive.Events(ctx, l.path, l.id) {
		if err != nil {
			return false, err
		}
		if !connected {
			l.tally.Add("connections", 1)
			connected = true
		}
		l.mu.Lock()
		if l.id = e.ID; e.Type != "" {
			l.events = append(l.events, e)
		}
		l.mu.Unlock()
		if e.Type == "end" && l.path != allPath {
			return true, nil
		}
	}
	return false, nil
}

// allPath is the stream of all events, from the first on.
const allPath = "/v1/events"

// inOrder demands a job's events 1, 2, 3, ... with end as the last and only one.
func (l *listener) inOrder() error {
	for i, e := range l.events {
		switch {
		case e.JobSeq == nil || *e.JobSeq != uint64(i+1) || e.ID != fmt.Sprint(i+1):
			return fmt.Errorf("%s: event %d has id %s: %s", l.path, i+1, e.ID, e.Message)
		case (e.Type == "end") != (i == len(l.events)-1):
			return fmt.Errorf("%s: event %d of %d is of type %s", l.path, i+1, len(l.events), e.Type)
		}
	}
	return nil
}

// allInOrder demands all events from the first to that of number newest. No number is
// given out and not used, and nothing is pruned from under a listener.
func (l *listener) allInOrder(newest uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.events {
		if e.Seq != uint64(i+1) || e.ID != fmt.Sprint(i+1) {
			return fmt.Errorf("event %d of all is number %d with id %s: %s", i+1, e.Seq, e.ID, e.Message)
		}
	}
	if n := uint64(len(l.events)); n < newest {
		return fmt.Errorf("a listener on all events has received %d of %d", n, newest)
	}
	return nil
}

// same checks that a listener on all events received of each job what the job's did.
func (l *listener) same(received map[string][]harness.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := map[string][]harness.Event{}
	for _, e := range l.events {
		if e.JobID != nil {
			of[*e.JobID] = append(of[*e.JobID], e)
		}
	}
	for id, want := range received {
		got := of[id]
		if len(got) != len(want) {
			return fmt.Errorf("job %s has %d events, among all it has %d", id, len(want), len(got))
		}
		for i := range got {
			if got[i].Seq != want[i].Seq || *got[i].JobSeq != *want[i].JobSeq || got[i].Message != want[i].Message {
				return fmt.Errorf("job %s: event %d is %q, among all it is %q", id, i+1, want[i].Message, got[i].Message)
			}
		}
	}
	return nil
}

// feeds are the listeners on all events.
type feeds struct {
	all  []*listener
	errs chan error
}

// listenToAll begins n listeners on all events, which end with ctx.
func (r *run) listenToAll(ctx context.Context, n int) *feeds {
	f := &feeds{errs: make(chan error, n)}
	for range n {
		l := &listener{run: r, path: allPath}
		f.all = append(f.all, l)
		go func() { f.errs <- l.listen(ctx) }()
	}
	return f
}

// checkFeeds checks what the listeners on all events have received.
func (r *run) checkFeeds(ctx context.Context, f *feeds) error {
	newest, err := r.newest(ctx)
	if err != nil {
		return err
	}
	err = harness.Eventually(ctx, finalTimeout, func() (string, error) {
		for _, l := range f.all {
			if err := l.allInOrder(newest); err != nil {
				return err.Error(), nil
			}
		}
		return "", nil
	})
	select {
	case ended := <-f.errs:
		return errors.Join(err, fmt.Errorf("a listener on all events ended: %w", ended))
	default:
	}
	if err != nil {
		return err
	}
	for _, l := range f.all {
		if err := l.same(r.received); err != nil {
			return err
		}
	}
	return nil
}

// newest is the number of the newest event that there is: the one that a client is
// told who asks only for what is new.
func (r *run) newest(ctx context.Context) (n uint64, err error) {
	for e, err := range r.hive.Events(ctx, allPath+"?after=latest", "") {
		if err == nil {
			_, err = fmt.Sscan(e.ID, &n)
		}
		return n, err
	}
	return 0, errors.New("the stream of what is new ended without an id")
}
