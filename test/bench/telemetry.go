package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"rbeehive/test/harness"
)

// heartbeats is how many hive's CPU time is measured over.
const heartbeats = 10

// telemetry measures what hive uses of a core while a client listens to the usage of 1, 100
// and 1,000 workers, as far as these numbers are above there and not above most.
func (r results) telemetry(ctx context.Context, hive *harness.Instance, there, most int) error {
	for _, n := range []int{1, 100, 1000} {
		if n <= there || n > most {
			continue
		}
		if err := fill(ctx, hive, n); err != nil {
			return err
		}
		if err := awaitIdle(ctx, hive.PID()); err != nil {
			return err
		}
		percent, bytes, err := listen(ctx, hive)
		if err != nil {
			return fmt.Errorf("listen to %d workers: %w", n, err)
		}
		fmt.Printf("telemetry of %d workers for one listener: %.2f %% of a core, %d bytes each second\n", n, percent, bytes)
		r["telemetry %"] = percent // of the most
	}
	return nil
}

// listen measures over some heartbeats, after the first.
func listen(ctx context.Context, hive *harness.Instance) (percent float64, size int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+hive.API+"/v1/heartbeats/stream", nil)
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
	begin, before := time.Time{}, 0
	for seen := 0; lines.Scan(); {
		if len(lines.Text()) > 0 {
			size = max(size, len(lines.Text()))
			continue
		}
		switch seen++; seen {
		case 1:
			begin = time.Now()
			before, err = cpuTicks(hive.PID())
		case 1 + heartbeats:
			after, err := cpuTicks(hive.PID())
			return float64(after-before) / time.Since(begin).Seconds(), size, err // 100 ticks are a second: percent
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return 0, 0, errors.Join(errors.New("the stream ended"), lines.Err())
}
