package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"rbeehive/test/harness"
)

// quietShare is how much of one core others may use while the bench itself rests: more, and
// ratios say as much about them as about hive.
const quietShare = 0.15

// rest watches the machine for a second in which the bench does nothing, and notes what
// others use of a core, the most of all rests.
func (r results) rest(ctx context.Context) error {
	before, err := busyTime()
	if err != nil {
		return err
	}
	begin := time.Now()
	if !harness.Sleep(ctx, time.Second) {
		return ctx.Err()
	}
	after, err := busyTime()
	r["others cores"] = max(r["others cores"], (after-before).Seconds()/time.Since(begin).Seconds())
	return err
}

// quiet reports whether the machine was there for the bench alone.
func (r results) quiet() bool { return r["others cores"] <= quietShare }

// busyTime is the time that all cores together have worked since boot (proc_stat(5), in
// hundredths of a second).
func busyTime() (time.Duration, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var ticks int64
	for n, f := range strings.Fields(line)[1:] {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		// idle and iowait are no work, guest time is in user's.
		if n != 3 && n != 4 && n < 8 {
			ticks += v
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
