package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

const (
	clients = 64
	// rounds of acceptance, and jobs of each: all fit into hive's queue of 10,000.
	rounds    = 3
	perRound  = 3000
	wholeJobs = 512
	checkJob  = `{"operation":"hive_check"}`
	// spawnSlots is how many starts a hive carries out at once.
	spawnSlots = 8
)

// acceptance measures how fast jobs are accepted over HTTP, beside a floor, and how
// fast whole ones are done.
func (r results) acceptance(ctx context.Context, binary string) (err error) {
	y, err := yard.New(binary, 2*clients,
		`[{name: holds, command: ["true"], before_start: ["sleep", "600"]}]`, "shutdown: stop")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.Clear()) }()
	h, err := y.Start(ctx)
	if err != nil {
		return err
	}
	defer h.Kill()
	if err := r.wholeChecks(ctx, y); err != nil {
		return err
	}
	if err := holdSpawns(ctx, h); err != nil {
		return err
	}
	record, answer, err := sizes(ctx, h)
	if err != nil {
		return err
	}
	floor, stop, err := startFloor(ctx, filepath.Join(y.Dir, "floor.db"), record, answer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := r.rounds(ctx, y.API, floor); err != nil {
		return err
	}
	// The queued jobs are cancelled with it, and the starts that hold them up.
	return h.Term()
}

// wholeChecks measures hive_check from its submission to its end: each starts and
// stops a reference worker.
func (r results) wholeChecks(ctx context.Context, y *yard.Yard) error {
	l, err := load(ctx, "http://"+y.API+"/v1/jobs?wait=60s", http.StatusOK, wholeJobs)
	if err != nil {
		return err
	}
	r["check jobs/s"] = l.rate
	fmt.Printf("hive_check from its submission to its end, %d clients: %v\n", clients, l)
	return nil
}

// holdSpawns has spawns under way that get no further than what is run before a
// start: a hive_check then waits for its turn, so that no worker is started while
// acceptance is measured.
func holdSpawns(ctx context.Context, h *yard.Daemon) error {
	for range spawnSlots {
		var sub wire.Submitted
		status, err := h.Call(ctx, http.MethodPost, "/v1/jobs", map[string]any{"operation": "worker_spawn", "worker": "holds"}, &sub)
		if err != nil || status != http.StatusAccepted {
			return fmt.Errorf("hold up spawns: status %d: %w", status, err)
		}
	}
	for ctx.Err() == nil { // a check that does not end shows that all turns are taken
		var job wire.Job
		status, err := h.Call(ctx, http.MethodPost, "/v1/jobs?wait=2s", map[string]any{"operation": "hive_check"}, &job)
		if err != nil || status == http.StatusAccepted {
			return err
		}
	}
	return ctx.Err()
}

// sizes are how many bytes hive records of a job that it accepts (the job and its
// first event, as the API shows them), and how many it answers.
func sizes(ctx context.Context, h *yard.Daemon) (record, answer int, err error) {
	var sub json.RawMessage
	if _, err := h.Call(ctx, http.MethodPost, "/v1/jobs", map[string]any{"operation": "hive_check"}, &sub); err != nil {
		return 0, 0, err
	}
	var id wire.Submitted
	if err := json.Unmarshal(sub, &id); err != nil {
		return 0, 0, err
	}
	job, err := h.Text(ctx, "/v1/jobs/"+id.JobID)
	if err != nil {
		return 0, 0, err
	}
	event := len(`{"seq":60,"at":"2026-11-23T17:34:24.819Z","type":"state","job_id":"","worker_id":null,"message":"hive_check queued","data":{"job":"queued"}}`) + len(id.JobID)
	return len(job) + event, len(sub) + 1, nil
}

// rounds measures hive and the floor in turns, and keeps the median round of each.
func (r results) rounds(ctx context.Context, hive, floor string) error {
	loads := map[string][]measured{}
	for range rounds {
		for _, s := range [][2]string{{"hive", hive + "/v1/jobs"}, {"floor", floor + "/"}} {
			l, err := load(ctx, "http://"+s[1], http.StatusAccepted, perRound)
			if err != nil {
				return fmt.Errorf("%s: %w", s[0], err)
			}
			loads[s[0]] = append(loads[s[0]], l)
		}
	}
	for name, all := range loads {
		slices.SortFunc(all, func(a, b measured) int { return int(a.rate - b.rate) })
		l := all[len(all)/2]
		fmt.Printf("durable acceptance of jobs by %d clients, %s: %v\n", clients, name, l)
		r["accept-"+name+" jobs/s"], r["accept-"+name+" p50-ms"], r["accept-"+name+" p99-ms"] = l.rate, l.p50, l.p99
	}
	return nil
}

// measured is what a load has shown: jobs per second, latencies in milliseconds.
type measured struct{ rate, p50, p99 float64 }

func (m measured) String() string {
	return fmt.Sprintf("%.0f jobs/s, p50 %.1f ms, p99 %.1f ms", m.rate, m.p50, m.p99)
}

// load has the clients submit n jobs in all, each over a connection of its own that
// it keeps.
func load(ctx context.Context, url string, want, n int) (measured, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 2 * time.Minute}
	took := make([]time.Duration, n)
	var next atomic.Int64
	begun := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range clients {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				at := time.Now()
				if err := submit(ctx, client, url, want); err != nil {
					return err
				}
				took[i] = time.Since(at)
			}
		})
	}
	if err := g.Wait(); err != nil {
		return measured{}, err
	}
	all := time.Since(begun)
	slices.Sort(took)
	ms := func(share float64) float64 { return float64(took[int(share*float64(n-1))].Microseconds()) / 1000 }
	return measured{float64(n) / all.Seconds(), ms(0.5), ms(0.99)}, nil
}

func submit(ctx context.Context, client *http.Client, url string, want int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(checkJob))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != want || strings.Contains(string(body), `"state":"failed"`)) {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return err
}
