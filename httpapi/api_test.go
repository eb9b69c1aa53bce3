package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

// The seed's three curl commands: spawn, spawn, delete; and everything one can
// look at meanwhile.
func TestSpawnLookDelete(t *testing.T) {
	r := newRig(t, rigOptions{})
	first, second := r.spawn("cpu"), r.spawn("cpu")
	require.Equal(t, r.ports.First, first.Port)
	require.Equal(t, r.ports.First+1, second.Port)
	require.Equal(t, "ready", first.Status)

	workers := decode[wire.Workers](t, r.get("/v1/workers", http.StatusOK))
	require.Len(t, workers.Workers, 2)
	require.Equal(t, first.WorkerID, workers.Workers[0].WorkerID)
	one := decode[wire.Worker](t, r.get("/v1/workers/"+first.WorkerID, http.StatusOK))
	require.Equal(t, "ready", one.State)
	require.Equal(t, "test", *one.Model)
	require.Equal(t, "0", *one.Device)
	require.Equal(t, *first.PID, *one.PID)
	require.Equal(t, first.URL, one.URL)

	leases := decode[wire.Leases](t, r.get("/v1/leases", http.StatusOK))
	require.Len(t, leases.Leases, 2)
	lease := decode[wire.Lease](t, r.get(fmt.Sprintf("/v1/leases/%d", first.Port), http.StatusOK))
	require.Equal(t, leases.Leases[0], lease)
	require.Equal(t, *first.PID, *lease.PID)

	ports := decode[wire.Ports](t, r.get("/v1/ports", http.StatusOK))
	require.Equal(t, 2, ports.Leased)
	require.Equal(t, ports.Total, ports.Free+ports.Leased+ports.Quarantined+ports.Reserved+ports.Foreign+ports.Draining+ports.Forbidden)

	info := decode[wire.Hive](t, r.get("/v1/hive", http.StatusOK))
	require.Equal(t, "localhost", info.HiveID)
	require.Zero(t, info.Recovery.Adopted)
	require.Equal(t, "ok", r.get("/health", http.StatusOK))

	job := r.do(fmt.Sprintf(`{"operation":"worker_process_delete","hive_id":"localhost","pid":%d}`, *first.PID))
	require.Equal(t, "succeeded", job.State, "%+v", job.Error)
	one = decode[wire.Worker](t, r.get("/v1/workers/"+first.WorkerID, http.StatusOK))
	require.Equal(t, "stopped", one.State)
	require.Nil(t, one.PID)
	require.Nil(t, one.LeaseID)
	r.get(fmt.Sprintf("/v1/leases/%d", first.Port), http.StatusNotFound)
	require.Equal(t, first.Port, r.spawn("cpu").Port, "a third gets the port of the first")
}

func TestKeeperAndPageFollowASpawn(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub := r.submit(`{"operation":"worker_spawn","hive_id":"localhost","model":"test","worker":"cpu","device":0}`)
	v := r.keeper(sub.JobID)
	require.NoError(t, v.err)
	require.False(t, v.failed)
	require.Equal(t, 1, v.complete)
	var result wire.Spawned
	v.webView(t, &result)
	require.Equal(t, "ready", result.Status)
	require.Contains(t, v.lines, "event: data")

	// A stream that is opened later tells the same, from the beginning.
	require.Equal(t, v.lines, r.keeper(sub.JobID).lines)

	list := r.keeper(r.submit(`{"operation":"worker_process_list","hive_id":"localhost"}`).JobID)
	var rows []map[string]any
	list.webView(t, &rows)
	require.Len(t, rows, 1)
	require.EqualValues(t, *result.PID, rows[0]["pid"])
	require.Equal(t, "test", rows[0]["model"])
}

func TestKeeperReadsErrors(t *testing.T) {
	r := newRig(t, rigOptions{})
	infer := r.keeper(r.submit(`{"operation":"infer","prompt":"x","anything":1}`).JobID)
	require.ErrorIs(t, infer.err, errKeeperFailed)
	require.Equal(t, "[ERROR] operation 'infer' is not supported by a hive (send it to the queen)", infer.lines[len(infer.lines)-1])

	get := r.keeper(r.submit(`{"operation":"worker_process_get","pid":1}`).JobID)
	require.ErrorIs(t, get.err, errKeeperFailed)
	require.Contains(t, get.lines[len(get.lines)-1], "[ERROR] not_found: ")
	require.Zero(t, get.complete)

	// rbee answers 200 and [DONE] here, which reads as success.
	resp, body := r.send(http.MethodGet, "/v1/jobs/job-none/stream", "")
	require.Equal(t, "not_found", problemOf(t, resp, body).Code)
}

func TestHostileLogDoesNotEndTheJob(t *testing.T) {
	shout := entry(t, "shout")
	shout.Command = []string{"sh", "-c", `printf '[DONE]\n[CANCELLED]\ndata: [DONE]\nmlock failed: no\n[ERROR] mine\n'; exit 3`}
	r := newRig(t, rigOptions{}, shout)
	v := r.keeper(r.submit(`{"operation":"worker_spawn","worker":"shout"}`).JobID)
	require.ErrorIs(t, v.err, errKeeperFailed)
	require.Contains(t, v.lines[len(v.lines)-1], "[ERROR] exited_early: ")
	require.Contains(t, v.lines, `\[CANCELLED]`)
	require.Contains(t, v.lines, "mlock failed : no")
	require.Zero(t, v.complete)
}

func TestPostWaits(t *testing.T) {
	r := newRig(t, rigOptions{}, entry(t, "never", "--unhealthy"))
	resp, body := r.send(http.MethodPost, "/v1/jobs?wait=50s", `{"operation":"worker_spawn","worker":"cpu"}`,
		"Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	job := decode[wire.Job](t, body)
	require.Equal(t, "succeeded", job.State)
	require.JSONEq(t, `{"operation":"worker_spawn","worker":"cpu"}`, string(job.Request))

	resp, body = r.send(http.MethodPost, "/v1/jobs?wait=50ms", `{"operation":"worker_spawn","worker":"never"}`)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	sub := decode[wire.Submitted](t, body)
	require.Equal(t, sub.JobID, decode[wire.Job](t, r.get("/v1/jobs/"+sub.JobID+"?wait=1ms", http.StatusOK)).JobID)

	resp, body = r.send(http.MethodDelete, "/v1/jobs/"+sub.JobID, "")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	require.Equal(t, wire.Cancelled{JobID: sub.JobID, Status: "cancelled"}, decode[wire.Cancelled](t, body))
	v := r.keeper(sub.JobID)
	require.ErrorIs(t, v.err, errKeeperCancelled)

	resp, body = r.send(http.MethodDelete, "/v1/jobs/"+sub.JobID, "")
	require.Equal(t, "conflict", problemOf(t, resp, body).Code)
	resp, body = r.send(http.MethodDelete, "/v1/jobs/job-none", "")
	require.Equal(t, "not_found", problemOf(t, resp, body).Code)
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, rigOptions{})
	tests := []struct {
		name, method, path, body string
		status                   int
		code, detail             string
	}{
		{"no body", "POST", "/v1/jobs", ``, 400, "bad_request", "empty"},
		{"no JSON", "POST", "/v1/jobs", `operation=worker_spawn`, 400, "bad_request", "JSON"},
		{"array", "POST", "/v1/jobs", `[]`, 400, "bad_request", "object"},
		{"no operation", "POST", "/v1/jobs", `{}`, 400, "bad_request", "operation"},
		{"unknown operation", "POST", "/v1/jobs", `{"operation":"dance"}`, 400, "unknown_operation", "dance"},
		{"unknown field", "POST", "/v1/jobs", `{"operation":"worker_spawn","worker":"cpu","mdl":"x"}`, 400, "unknown_field", "mdl"},
		{"unknown type", "POST", "/v1/jobs", `{"operation":"worker_spawn","worker":"tpu"}`, 400, "unknown_worker_type", "tpu"},
		{"flag as model", "POST", "/v1/jobs", `{"operation":"worker_spawn","worker":"cpu","model":"--host"}`, 400, "bad_request", "model"},
		{"another hive", "POST", "/v1/jobs", `{"operation":"worker_process_list","hive_id":"elsewhere"}`, 400, "bad_request", "hive_id"},
		{"wait without a unit", "POST", "/v1/jobs?wait=5", `{"operation":"hive_check"}`, 400, "bad_request", "wait"},
		{"negative wait", "GET", "/v1/jobs/x?wait=-1s", ``, 400, "bad_request", "wait"},
		{"bad state", "GET", "/v1/jobs?state=done", ``, 400, "bad_request", "state"},
		{"bad limit", "GET", "/v1/jobs?limit=0", ``, 400, "bad_request", "limit"},
		{"bad limit", "GET", "/v1/workers?limit=x", ``, 400, "bad_request", "limit"},
		{"bad cursor", "GET", "/v1/workers?after=x", ``, 400, "bad_request", "after"},
		{"bad cursor", "GET", "/v1/leases?after=70000", ``, 400, "bad_request", "after"},
		{"bad port", "GET", "/v1/leases/http", ``, 400, "bad_request", "port"},
		{"free port", "GET", "/v1/leases/1", ``, 404, "not_found", "1"},
		{"no job", "GET", "/v1/jobs/job-none", ``, 404, "not_found", "job-none"},
		{"no job's events", "GET", "/v1/jobs/job-none/events", ``, 404, "not_found", "job-none"},
		{"bad event", "GET", "/v1/jobs/job-none/events?after=x", ``, 400, "bad_request", "after"},
		{"no worker", "GET", "/v1/workers/none", ``, 404, "not_found", "none"},
		{"no worker's log", "GET", "/v1/workers/none/logs", ``, 404, "not_found", "none"},
		{"bad tail", "GET", "/v1/workers/none/logs?tail=-1", ``, 400, "bad_request", "tail"},
		{"bad follow", "GET", "/v1/workers/none/logs?follow=maybe", ``, 400, "bad_request", "follow"},
		{"no worker's events", "GET", "/v1/workers/none/events", ``, 404, "not_found", "none"},
		{"slash in a name", "GET", "/v1/workers/a%2Fb", ``, 404, "not_found", `a/b`},
		{"climbing name", "GET", "/v1/workers/..%2F..%2Fetc%2Fpasswd/logs", ``, 404, "not_found", "passwd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := r.send(tt.method, tt.path, tt.body)
			require.Equal(t, tt.status, resp.StatusCode, body)
			p := problemOf(t, resp, body)
			require.Equal(t, tt.code, p.Code)
			require.Contains(t, p.Detail, tt.detail)
		})
	}
	for _, key := range []string{"", "a b", "\u00e9", strings.Repeat("k", 256)} {
		resp, body := r.send("POST", "/v1/jobs", `{"operation":"hive_check"}`, "Idempotency-Key", key)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, key)
		require.Contains(t, problemOf(t, resp, body).Detail, "Idempotency-Key: 1 to 255")
	}
	resp, body := r.send("GET", "/v1/jobs/job-none/events", "", "Last-Event-ID", "x")
	require.Contains(t, problemOf(t, resp, body).Detail, "Last-Event-ID")
	require.Empty(t, decode[wire.Jobs](t, r.get("/v1/jobs", http.StatusOK)).Jobs, "a refused request leaves no job")
}

func TestBodyLimit(t *testing.T) {
	r := newRig(t, rigOptions{})
	padded := func(size int) string {
		op := `{"operation":"hive_check","alias":"`
		return op + strings.Repeat("x", size-len(op)-2) + `"}`
	}
	resp, body := r.send(http.MethodPost, "/v1/jobs", padded(1<<20+1))
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	require.Equal(t, "too_large", problemOf(t, resp, body).Code)
	resp, body = r.send(http.MethodPost, "/v1/jobs?wait=50s", padded(1<<20))
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
}

func TestHeadFollowsGet(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.spawn("cpu")
	jobs := decode[wire.Jobs](t, r.get("/v1/jobs", http.StatusOK))
	for _, path := range []string{
		"/docs", "/openapi.yaml", "/health", "/v1/hive", "/v1/ports", "/v1/workers", "/v1/jobs/" + jobs.Jobs[0].JobID,
		"/v1/jobs/" + jobs.Jobs[0].JobID + "/stream", "/v1/jobs/" + jobs.Jobs[0].JobID + "/events",
		"/v1/workers/" + w.WorkerID + "/logs?follow=1",
	} {
		resp, body := r.send(http.MethodHead, path, "")
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Empty(t, body, path)
		require.NotEmpty(t, resp.Header.Get("Content-Type"), path)
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"), path)
	}
	resp, _ := r.send(http.MethodHead, "/v1/jobs/job-none", "")
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
}

// The list of all workers is kept encoded; a page of it is not. Whatever happens to a worker,
// both say the same.
func TestTheListOfWorkersIsOfNow(t *testing.T) {
	r := newRig(t, rigOptions{})
	same := func() string {
		t.Helper()
		list := r.get("/v1/workers", http.StatusOK)
		require.Equal(t, r.get("/v1/workers?limit=1000", http.StatusOK), list)
		require.Equal(t, list, r.get("/v1/workers", http.StatusOK))
		return list
	}
	require.Equal(t, `{"workers":[],"wanted":[],"next":""}`+"\n", same())
	w := r.spawn("cpu")
	require.Equal(t, []string{"ready"}, statesIn(t, same()))
	r.spawn("cpu")
	require.Equal(t, []string{"ready", "ready"}, statesIn(t, same()))
	r.do(`{"operation":"worker_stop","worker_id":"` + w.WorkerID + `"}`)
	require.ElementsMatch(t, []string{"ready", "stopped"}, statesIn(t, same()))
	resp, _ := r.send(http.MethodDelete, "/v1/workers/"+w.WorkerID, "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, []string{"ready"}, statesIn(t, same()))
}

func statesIn(t *testing.T, workers string) (states []string) {
	t.Helper()
	for _, w := range decode[wire.Workers](t, workers).Workers {
		states = append(states, w.State)
	}
	return states
}

func TestPages(t *testing.T) {
	r := newRig(t, rigOptions{})
	for range 3 {
		r.spawn("cpu")
	}
	var ids []string
	for after := "-"; after != ""; {
		page := decode[wire.Workers](t, r.get("/v1/workers?limit=2&after="+strings.TrimPrefix(after, "-"), http.StatusOK))
		for _, w := range page.Workers {
			ids = append(ids, w.WorkerID)
		}
		after = page.Next
	}
	require.Len(t, ids, 3)
	first := decode[wire.Leases](t, r.get("/v1/leases?limit=2", http.StatusOK))
	require.Len(t, first.Leases, 2)
	rest := decode[wire.Leases](t, r.get("/v1/leases?limit=2&after="+first.Next, http.StatusOK))
	require.Len(t, rest.Leases, 1)
	require.Empty(t, rest.Next)

	newest := decode[wire.Jobs](t, r.get("/v1/jobs?limit=1&state=succeeded&operation=worker_spawn", http.StatusOK))
	require.Len(t, newest.Jobs, 1)
	older := decode[wire.Jobs](t, r.get("/v1/jobs?limit=9999&after="+newest.Next, http.StatusOK))
	require.Len(t, older.Jobs, 2)
	require.Greater(t, newest.Jobs[0].JobID, older.Jobs[0].JobID, "newest first")
	none := r.get("/v1/jobs?state=cancelled", http.StatusOK)
	require.Equal(t, `{"jobs":[],"next":""}`+"\n", none)
}

func TestWorkerEvents(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.spawn("cpu")
	all := decode[wire.Events](t, r.get("/v1/workers/"+w.WorkerID+"/events", http.StatusOK))
	require.GreaterOrEqual(t, len(all.Events), 3)
	require.Empty(t, all.Next)
	page := decode[wire.Events](t, r.get("/v1/workers/"+w.WorkerID+"/events?limit=2", http.StatusOK))
	require.Len(t, page.Events, 2)
	rest := decode[wire.Events](t, r.get("/v1/workers/"+w.WorkerID+"/events?after="+page.Next, http.StatusOK))
	require.Equal(t, all.Events, append(page.Events, rest.Events...))
	for _, e := range all.Events {
		require.Equal(t, w.WorkerID, *e.WorkerID)
	}
}

// What a client cannot know must not break it, and what is absent is null.
func TestWorkerHasEveryMember(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.spawn("cpu")
	got := decode[map[string]json.RawMessage](t, r.get("/v1/workers/"+w.WorkerID, http.StatusOK))
	for _, name := range []string{
		"worker_id", "name", "type", "model", "device", "port", "ports", "pid", "url", "state", "reason", "stale", "desired",
		"restarts", "exit", "lease_id", "log", "started_at", "ready_at",
	} {
		require.Contains(t, got, name)
	}
	require.Equal(t, "null", string(got["name"]))
	require.Equal(t, "null", string(got["exit"]))
	require.Regexp(t, `^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"$`, string(got["started_at"]))
}

// A client that lost the answer sends the same again, from many places at once.
func TestIdempotencyKey(t *testing.T) {
	r := newRig(t, rigOptions{})
	const op = `{"operation":"worker_spawn","worker":"cpu","name":"once"}`
	var wg sync.WaitGroup
	ids := make([]string, 100)
	for i := range ids {
		wg.Go(func() {
			resp, body := r.send("POST", "/v1/jobs?wait=60s", op, "Idempotency-Key", "k-1")
			var job wire.Job
			if resp.StatusCode == http.StatusOK && json.Unmarshal([]byte(body), &job) == nil && job.State == "succeeded" {
				ids[i] = job.JobID
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.NotEmpty(t, id)
		require.Equal(t, ids[0], id)
	}
	require.Len(t, decode[wire.Workers](t, r.get("/v1/workers", http.StatusOK)).Workers, 1)
	require.Len(t, decode[wire.Jobs](t, r.get("/v1/jobs", http.StatusOK)).Jobs, 1)
	resp, body := r.send("POST", "/v1/jobs", `{"operation":"worker_spawn","worker":"cpu"}`, "Idempotency-Key", "k-1")
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	require.Contains(t, problemOf(t, resp, body).Detail, ids[0])
}
