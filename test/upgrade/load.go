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
)

// load is a steady load of requests to all workers.
type load struct {
	served, failed atomic.Int64
	first          atomic.Pointer[error] // the first failure
	clients        []*caller
	stop           context.CancelFunc
	wg             sync.WaitGroup
}

// caller sends requests to one worker.
type caller struct {
	worker wire.Worker
	client *http.Client
	served atomic.Int64
}

func (l *load) String() string {
	s := fmt.Sprintf("%d requests to %d workers, %d of them failed", l.served.Load()+l.failed.Load(), len(l.clients), l.failed.Load())
	if first := l.first.Load(); first != nil {
		s += fmt.Sprintf(", first: %v", *first)
	}
	return s
}

// begin begins the load. Every second worker is asked over one connection that is
// kept, which shows that none is cut; the others over a new one each time, which
// shows that they listen all the time.
func begin(ctx context.Context, workers map[string]wire.Worker, every time.Duration) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{stop: cancel}
	for _, w := range workers {
		c := &caller{worker: w, client: &http.Client{
			Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: len(l.clients)%2 == 0},
		}}
		l.clients = append(l.clients, c)
		l.wg.Go(func() { l.call(ctx, c, every) })
	}
	return l
}

func (l *load) call(ctx context.Context, c *caller, every time.Duration) {
	defer c.client.CloseIdleConnections()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.ask(); err != nil {
			l.failed.Add(1)
			l.first.CompareAndSwap(nil, &err)
			continue
		}
		l.served.Add(1)
		c.served.Add(1)
	}
}

// ask sends one request, to its end: one that is under way when the load ends
// counts, too.
func (c *caller) ask() error {
	resp, err := c.client.Get(c.worker.URL + "/v1/models")
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
	deadline := time.Now().Add(30 * time.Second)
	for i, c := range l.clients {
		for c.served.Load() < want[i] {
			if time.Now().After(deadline) || ctx.Err() != nil {
				return fmt.Errorf("worker %s does not answer any more; %s", c.worker.WorkerID, l)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}
