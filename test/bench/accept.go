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
	"rbeehive/test/harness"
)

const (
	clients = 64
	// rounds of acceptance, and jobs of each: all fit into hive's queue of 10,000.
	rounds    = 3
	perRound  = 3000
	wholeJobs = 512
	checkJob  = `{"operation":"hive_check"}`
	// spawnSlots is how many starts a hive carries out at once, and holdTimeout how
	// long it may take until all are taken.
	spawnSlots  = 8
	holdTimeout = time.Minute
)

var check = harness.Op{"operation": "hive_check"}

// acceptance measures how fast jobs are accepted over HTTP, beside a floor, and how
// fast whole ones are done.
func (r results) acceptance(ctx context.Context, binary string) (err error) {
	hive, err := harness.New(binary, 2*clients,
		`[{name: holds, command: ["true"], before_start: ["sleep", "600"]}]`, "shutdown: stop")
	if err != nil {
		return err
	}
	defer func() { err = hive.Close(err) }()
	if err := hive.Start(ctx); err != nil {
		return err
	}
	if err := r.wholeChecks(ctx, hive.API); err != nil {
		return err
	}
	if err := holdSpawns(ctx, hive); err != nil {
		return err
	}
	record, response, err := sizes(ctx, hive)
	if err != nil {
		return err
	}
	floor, stop, err := startFloor(ctx, filepath.Join(hive.Dir, "floor.db"), record, response)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := r.rounds(ctx, hive.API, floor); err != nil {
		return err
	}
	// The queued jobs are cancelled with it, and the starts that hold them up.
	return hive.Term()
}

// wholeChecks measures hive_check from its submission to its end: each starts and
// stops a reference worker.
func (r results) wholeChecks(ctx context.Context, api string) error {
	l, err := load(ctx, "http://"+api+"/v1/jobs?wait=60s", http.StatusOK, wholeJobs)
	if err != nil {
		return err
	}
	r["check jobs/s"] = l.rate
	fmt.Printf("hive_check from its submission to its end, %d clients: %v\n", clients, l)
	return nil
}

// holdSpawns has spawns under way that get no further than what is run before a
// start: a hive_check then waits for a slot, so that no worker is started while
// acceptance is measured.
func holdSpawns(ctx context.Context, hive *harness.Instance) error {
	for range spawnSlots {
		if err := hive.Call(ctx, http.MethodPost, "/v1/jobs", harness.Spawn("holds"), nil); err != nil {
			return fmt.Errorf("hold up spawns: %w", err)
		}
	}
	return harness.Eventually(ctx, holdTimeout, func() (string, error) {
		var job wire.Job // one that does not end shows that all slots are taken
		err := hive.Call(ctx, http.MethodPost, "/v1/jobs?wait=2s", check, &job)
		if err != nil || job.FinishedAt == nil {
			return "", err
		}
		return "a check still finds a slot", nil
	})
}

// sizes are how many bytes hive records of a job that it accepts (the job and its
// first event, as the API shows them), and how many it responds with.
func sizes(ctx context.Context, hive *harness.Instance) (record, response int, err error) {
	var sub json.RawMessage
	if err := hive.Call(ctx, http.MethodPost, "/v1/jobs", check, &sub); err != nil {
		return 0, 0, err
	}
	var id wire.Submitted
	if err := json.Unmarshal(sub, &id); err != nil {
		return 0, 0, err
	}
	job, err := hive.Text(ctx, "/v1/jobs/"+id.JobID)
	if err != nil {
		return 0, 0, err
	}
	event := len(`{"seq":60,"at":"2026-11-23T17:34:24.819Z","type":"state","job_id":"","worker_id":null,"message":"hive_check queued","data":{"job":"queued"}}`) + len(id.JobID)
	return len(job) + event, len(sub) + 1, nil
}

// rounds measures hive and the floor alternately, and keeps the median round of each.
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
	begin := time.Now()
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
	all := time.Since(begin)
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
