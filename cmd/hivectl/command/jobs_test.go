package command_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

func TestJobsSubmit(t *testing.T) {
	api, addr := serve(t, spawning())
	const op = `{"operation": "worker_process_list"}`
	r := hivectl(t, addr, "jobs", "submit", op)
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "watch      hivectl jobs watch job-1\n")
	r = hivectlWith(t, func(e *cli.Env) { e.Stdin = strings.NewReader(op + "\n") }, "--addr", addr, "jobs", "submit", "-", "-q")
	require.Equal(t, result{0, "job-1\n", ""}, r)
	require.Equal(t, []string{op, op + "\n"}, api.sent(), "the operation is passed on as it was written")

	large := `{"operation":"` + strings.Repeat("x", 1<<20) + `"}`
	for _, bad := range []string{"", "{", `{"a":1} {"b":2}`, large} {
		r := hivectlWith(t, func(e *cli.Env) { e.Stdin = strings.NewReader(bad) }, "--addr", addr, "jobs", "submit", "-")
		require.Equal(t, 2, r.code)
	}
	require.Len(t, api.sent(), 2)
}

func TestJobsList(t *testing.T) {
	var query string
	page := `{"jobs":[{"job_id":"job-2","operation":"worker_stop","state":"failed","error":{"code":"c","message":"m","log":[]},"created_at":"2026-01-02T11:00:00.000Z"}],"next":"job-2"}`
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/jobs": func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		answer(page)(w, r)
	}})
	r := hivectl(t, addr, "jobs", "list", "--state", "failed", "--operation", "worker_stop", "--limit", "1", "--after", "job-9")
	require.Equal(t, "state=failed&operation=worker_stop&limit=1&after=job-9", query)
	require.Equal(t, "JOB    OPERATION    STATE   AGE   BY  ERROR\njob-2  worker_stop  failed  1h0m  -   c: m\n", r.stdout)
	require.Equal(t, "more: hivectl jobs list --after job-2\n", r.stderr)
	r = hivectl(t, addr, "jobs", "list", "-o", "json")
	require.Equal(t, result{0, page + "\n", ""}, r)
	require.Equal(t, 2, hivectl(t, addr, "jobs", "list", "--limit", "-1").code)
}

func TestJobsWatch(t *testing.T) {
	routes := spawning()
	_, addr := serve(t, routes)
	r := hivectl(t, addr, "jobs", "watch", "job-1")
	require.Zero(t, r.code)
	require.Len(t, strings.Split(strings.TrimSpace(r.stdout), "\n"), 3)
	require.Empty(t, r.stderr)
	r = hivectl(t, addr, "jobs", "watch", "job-1", "-o", "json")
	require.Regexp(t, `^(\{[^\n]*"type":"[a-z]+"\}\n){3}$`, r.stdout)
	r = hivectl(t, addr, "jobs", "watch", "job-1", "-o", "yaml")
	require.Equal(t, 3, strings.Count(r.stdout, "---\n"))
	require.Equal(t, result{0, "", ""}, hivectl(t, addr, "jobs", "watch", "job-1", "-q"))

	routes["GET /v1/jobs/job-1"] = answer(`{"job_id":"job-1","operation":"worker_spawn","state":"cancelled","error":null}`)
	r = hivectl(t, addr, "jobs", "watch", "job-1", "-q")
	require.Equal(t, result{1, "", "hivectl: worker_spawn was cancelled\nhint: somebody cancelled it; run the command again if you still want it\n"}, r)
	require.Equal(t, 3, hivectl(t, addr, "jobs", "watch", "job-2").code)
	require.Equal(t, 2, hivectl(t, addr, "jobs", "watch", "").code)
}

func TestJobsGetAndCancel(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/jobs/job-1":    answer(`{"job_id":"job-1","operation":"worker_stop","state":"succeeded","request":{"a":1},"result":null,"error":null,"created_at":"2026-01-02T11:00:00.000Z"}`),
		"DELETE /v1/jobs/job-1": answer(`{"job_id":"job-1","status":"cancelled"}`),
		"DELETE /v1/jobs/job-2": problem(409, "conflict", "job-2 has ended"),
	})
	r := hivectl(t, addr, "jobs", "get", "job-1")
	require.Contains(t, r.stdout, "job        job-1\noperation  worker_stop\nstate      succeeded\nrequest    {\"a\":1}\nresult     -\nerror      -\n")
	require.Equal(t, result{0, "job-1 cancelled\n", ""}, hivectl(t, addr, "jobs", "cancel", "job-1"))
	require.Equal(t, result{1, "", "hivectl: job-2 has ended\nhint: look at it again: it may have changed meanwhile\n"}, hivectl(t, addr, "jobs", "cancel", "job-2"))
	require.Equal(t, 3, hivectl(t, addr, "jobs", "cancel", "job-3").code)
}
