package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"rbeehive/test/yard"
)

// listened is how many heartbeats hive's CPU time is measured over.
const listened = 10

// telemetry measures what hive uses of a core while somebody listens to what 1, 100 and
// 1,000 workers use, of these numbers those above there, and up to most.
func (r results) telemetry(ctx context.Context, y *yard.Yard, h *yard.Daemon, there, most int) error {
	for _, n := range []int{1, 100, 1000} {
		if n <= there || n > most {
			continue
		}
		if err := fill(ctx, h, n); err != nil {
			return err
		}
		if err := settled(ctx, h.PID()); err != nil {
			return err
		}
		percent, bytes, err := listen(ctx, y, h)
		if err != nil {
			return fmt.Errorf("listen to %d workers: %w", n, err)
		}
		fmt.Printf("telemetry of %d workers for one listener: %.2f %% of a core, %d bytes each second\n", n, percent, bytes)
		r["telemetry %"] = percent // of the most
	}
	return nil
}

// listen measures over some heartbeats, after the first.
func listen(ctx context.Context, y *yard.Yard, h *yard.Daemon) (percent float64, size int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+y.API+"/v1/heartbeats/stream", nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	begun, before := time.Time{}, 0
	for beats := 0; lines.Scan(); {
		if len(lines.Text()) > 0 {
			size = max(size, len(lines.Text()))
			continue
		}
		switch beats++; beats {
		case 1:
			begun = time.Now()
			before, err = cpuTicks(h.PID())
		case 1 + listened:
			after, err := cpuTicks(h.PID())
			return float64(after-before) / time.Since(begun).Seconds(), size, err // 100 ticks are a second: percent
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return 0, 0, errors.Join(errors.New("the stream ended"), lines.Err())
}
