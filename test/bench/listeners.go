package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
	"rbeehive/test/hub"
)

const (
	listeners = 1000
	// The download takes 25 seconds, and tells of itself twice a second.
	listenedSize = 25 << 20
	listenedRate = 1 << 20
	listenedTo   = "test/listened"
)

// listeners measures one job whose events 1,000 clients follow: from the time that an event has until
// a client has it, and hive's CPU for each of these deliveries.
func (r results) listeners(ctx context.Context, binary string) (err error) {
	server := hub.Start()
	defer server.Close()
	server.Add(listenedTo, hub.File{Path: "model.gguf", Size: listenedSize, Seed: 1, LFS: true})
	server.Misbehave(hub.Faults{Rate: listenedRate})
	hive, err := harness.New(binary, 1, "[]", "models: {endpoint: '"+server.URL+"'}")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	if err := hive.Start(ctx); err != nil {
		return err
	}
	var sub wire.Submitted
	if err := hive.Call(ctx, http.MethodPost, "/v1/jobs", harness.Op{"operation": "model_download", "model": listenedTo}, &sub); err != nil {
		return err
	}
	before := cpuTime(hive.PID())
	var mu sync.Mutex
	var took []time.Duration
	g, ctx := errgroup.WithContext(ctx)
	for range listeners {
		g.Go(func() error {
			mine, err := deliveries(ctx, hive, sub.JobID)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.Sort(took)
	r["listeners cpu-us"] = float64((cpuTime(hive.PID()) - before).Microseconds()) / float64(len(took))
	r["listeners p99-ms"] = ms(took[len(took)*99/100])
	rss, err := ownMemory(hive.PID())
	fmt.Printf("one job with %d listeners: %d events delivered, p50 %.1f ms, p99 %.1f ms, %.1f us of hive's CPU each; then %.1f MB of its own\n",
		listeners, len(took), ms(took[len(took)/2]), r["listeners p99-ms"], r["listeners cpu-us"], rss)
	return err
}

// deliveries follows the events of a job until its end, and returns how old each was when it came,
// but for those that were there before the listeners were.
func deliveries(ctx context.Context, hive *harness.Instance, job string) (took []time.Duration, err error) {
	resp, err := hive.Stream(ctx, "/v1/jobs/"+job+"/events")
	if err != nil {
		return nil, err
	}
	defer resp.Close()
	connected := time.Now()
	lines := bufio.NewScanner(resp)
	for lines.Scan() {
		now := time.Now()
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		_, rest, found := bytes.Cut(data, []byte(`"at":"`))
		if !ok || !found {
			continue
		}
		// Nothing else of it is read: the clients use the same two cores.
		text, _, _ := bytes.Cut(rest, []byte(`"`))
		at, err := time.Parse(time.RFC3339Nano, string(text))
		if err != nil {
			return nil, err
		}
		if at.Sub(connected) > time.Second {
			took = append(took, now.Sub(at))
		}
	}
	return took, lines.Err()
}
