package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"rbeehive/hive/reference"
	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// load is a steady load of requests to all workers.
type load struct {
	served, failed atomic.Int64
	first          atomic.Pointer[error] // the first failure
	clients        []*client
	stop           context.CancelFunc
	wg             sync.WaitGroup
}

// client sends requests to one worker.
type client struct {
	worker wire.Worker
	http   *http.Client
	served atomic.Int64
}

func (l *load) String() string {
	s := fmt.Sprintf("%d requests to %d workers, %d of them failed", l.served.Load()+l.failed.Load(), len(l.clients), l.failed.Load())
	if first := l.first.Load(); first != nil {
		s += fmt.Sprintf(", first: %v", *first)
	}
	return s
}

// startLoad begins the load. Every second worker is asked over one connection that is
// kept, which shows that none is cut; the others over a new one each time, which
// shows that they listen all the time.
func startLoad(ctx context.Context, workers map[string]wire.Worker, every time.Duration) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{stop: cancel}
	for _, w := range workers {
		c := &client{worker: w, http: &http.Client{
			Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: len(l.clients)%2 == 0},
		}}
		l.clients = append(l.clients, c)
		l.wg.Go(func() { l.ask(ctx, c, every) })
	}
	return l
}

// ask asks one worker until ctx ends.
func (l *load) ask(ctx context.Context, c *client, every time.Duration) {
	defer c.http.CloseIdleConnections()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.request(); err != nil {
			l.failed.Add(1)
			l.first.CompareAndSwap(nil, &err)
			continue
		}
		l.served.Add(1)
		c.served.Add(1)
	}
}

// request sends one, to its end: one that is under way when the load ends counts, too.
func (c *client) request() error {
	resp, err := c.http.Get(c.worker.URL + "/v1/models")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if id := resp.Header.Get(reference.WorkerHeader); resp.StatusCode != http.StatusOK || id != c.worker.WorkerID {
		return fmt.Errorf("%s: status %d from worker %q, expected 200 from %s", c.worker.URL, resp.StatusCode, id, c.worker.WorkerID)
	}
	return nil
}

// await waits until every worker has answered two requests that began after now.
func (l *load) await(ctx context.Context) error {
	want := make([]int64, len(l.clients))
	for i, c := range l.clients {
		want[i] = c.served.Load() + 3 // one may be under way
	}
	return harness.Eventually(ctx, 30*time.Second, func() (string, error) {
		for i, c := range l.clients {
			if c.served.Load() < want[i] {
				return fmt.Sprintf("worker %s does not answer any more; %s", c.worker.WorkerID, l), nil
			}
		}
		return "", nil
	})
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}
