package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/errdefs"
	"rbeehive/httpapi"
	"rbeehive/httpapi/wire"
	"rbeehive/test/skip"
)

// provocation makes the real handler answer with one code.
type provocation struct {
	status int
	detail string // part of it
	retry  bool   // the answer says when to try again
	answer func(t *testing.T) (*http.Response, string)
}

// ask provokes with one request to a hive that has nothing special about it.
func ask(method, path, body string, header ...string) func(*testing.T) (*http.Response, string) {
	return func(t *testing.T) (*http.Response, string) {
		return newRig(t, rigOptions{}).send(method, path, body, header...)
	}
}

// provocations has one for every code of an answer.
var provocations = map[string]provocation{
	"bad_request":         {400, `port: is "x"; expected an integer from 1 to 65535`, false, ask("POST", "/v1/jobs", `{"operation":"worker_spawn","worker":"cpu","port":"x"}`)},
	"unknown_field":       {400, "mdl: is not a field of worker_spawn", false, ask("POST", "/v1/jobs", `{"operation":"worker_spawn","worker":"cpu","mdl":"x"}`)},
	"unknown_operation":   {400, `operation: unknown operation "dance" (known: hive_check,`, false, ask("POST", "/v1/jobs", `{"operation":"dance"}`)},
	"unknown_worker_type": {400, `worker: no worker type "tpu" (known: comfyui, cpu,`, false, ask("POST", "/v1/jobs", `{"operation":"worker_spawn","worker":"tpu"}`)},
	"too_large":           {413, "body: larger than 1 MiB", false, ask("POST", "/v1/jobs", `{"operation":"`+strings.Repeat("x", 1<<20)+`"}`)},
	"not_found":           {404, `job "job-1": not found`, false, ask("GET", "/v1/jobs/job-1", "")},
	"method_not_allowed":  {405, "DELETE; allowed: GET, HEAD, OPTIONS", false, ask("DELETE", "/v1/hive", "")},
	"cross_origin":        {403, "cross-origin request refused", false, ask("POST", "/v1/jobs", "{}", "Origin", "https://evil.example")},
	"forbidden":           {403, "the caller has uid 54321", false, provokeForbidden},
	"unauthorized": {401, "with a token of this hive that has not expired", false, func(t *testing.T) (*http.Response, string) {
		resp, body := newRig(t, rigOptions{}).send(http.MethodGet, "/v1/hive", "", "Authorization", "Bearer other")
		require.Equal(t, "Bearer", resp.Header.Get("WWW-Authenticate"))
		return resp, body
	}},
	"forbidden_host":   {403, `Host "evil.example" is neither a loopback name nor in allowed_hosts`, false, provokeForbiddenHost},
	"conflict":         {409, "has already ended (failed)", false, provokeConflict},
	"port_unavailable": {409, "it is leased to bob", false, provokePortUnavailable},
	"ports_exhausted":  {409, "no 4 consecutive ports available", false, ask("POST", "/v1/leases", `{"ttl":"1h","ports":4}`)},
	"events_gone":      {410, "is none of this hive", false, ask("GET", "/v1/events?after=999999", "")},
	"queue_full":       {429, "1 jobs are waiting or running (jobs.max_queued)", true, provokeQueueFull},
	"recovering":       {503, "recovering", true, provokeRecovering},
	"shutting_down":    {503, "shutting down", true, provokeShuttingDown},
	"disk_full":        {507, "disk", false, provokeDiskFull},
	"invalid_configuration": {409, "hive.yaml:1: listen: what was expected", false, func(t *testing.T) (*http.Response, string) {
		return reloadWith(t, &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: "hive.yaml:1: listen: what was expected"})
	}},
	"internal": {500, "hive's log says more under request_id the-request", false, func(t *testing.T) (*http.Response, string) {
		return reloadWith(t, fmt.Errorf("reload: %w", &os.PathError{Op: "open", Path: "/srv/secret", Err: syscall.EIO}))
	}},
}

// Every code is answered to a real request as it is documented, and none is
// answered or documented that is not here.
func TestEveryCode(t *testing.T) {
	listed := map[string][]int{}
	for _, row := range documented(t, "## Errors") {
		status, err := strconv.Atoi(row[1])
		require.NoError(t, err, row)
		listed[row[0]] = append(listed[row[0]], status)
	}
	require.Equal(t, httpapi.Codes(), listed, "docs/http-reference.md has other codes than errors.go")
	provoked := map[string][]int{}
	for code, p := range provocations {
		provoked[code] = []int{p.status}
	}
	require.Equal(t, listed, provoked, "a code without a provocation, or with another status")

	for code, p := range provocations {
		t.Run(code, func(t *testing.T) {
			resp, body := p.answer(t)
			require.Equal(t, p.status, resp.StatusCode, body)
			problem := problemOf(t, resp, body)
			require.Equal(t, wire.Problem{
				Type: "about:blank", Title: http.StatusText(p.status), Status: p.status, Code: code, Detail: problem.Detail, RequestID: problem.RequestID,
			}, problem)
			require.Contains(t, problem.Detail, p.detail)
			require.NotEmpty(t, problem.RequestID)
			require.Equal(t, p.retry, resp.Header.Get("Retry-After") != "", "Retry-After")
			require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
			require.NotContains(t, body, "/srv/secret")
			require.NotContains(t, body, "input/output error")
		})
	}
}

// provokeForbidden has another user lease a port to a process of root.
func provokeForbidden(t *testing.T) (*http.Response, string) {
	skip.UnlessRoot(t, "only root can be another user")
	body := fmt.Sprintf(`{"pid":%d}`, os.Getppid())
	conn := dialAs(t, 54321, newRig(t, rigOptions{access: admins(54321)}).serveSocket())
	_, err := fmt.Fprintf(conn, "POST /v1/leases HTTP/1.1\r\nHost: anything\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(answer)
}

func provokeForbiddenHost(t *testing.T) (*http.Response, string) {
	r := newRig(t, rigOptions{})
	req, err := http.NewRequest(http.MethodGet, r.url+"/v1/hive", nil)
	require.NoError(t, err)
	req.Host = "evil.example"
	resp, err := r.client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func provokeConflict(t *testing.T) (*http.Response, string) {
	r := newRig(t, rigOptions{})
	return r.send(http.MethodDelete, "/v1/jobs/"+r.do(`{"operation":"infer"}`).JobID, "")
}

func provokePortUnavailable(t *testing.T) (*http.Response, string) {
	r := newRig(t, rigOptions{})
	r.send(http.MethodPost, "/v1/leases", fmt.Sprintf(`{"ttl":"1h","owner":"bob","port":%d}`, r.ports.First))
	return r.send(http.MethodPost, "/v1/leases", fmt.Sprintf(`{"ttl":"1h","port":%d}`, r.ports.First))
}

func provokeQueueFull(t *testing.T) (*http.Response, string) {
	r := newRig(t, rigOptions{config: func(c *hive.Config) { c.Jobs.MaxQueued = 1 }}, entry(t, "never", "--unhealthy"))
	waits := r.submit(`{"operation":"worker_spawn","worker":"never"}`)
	resp, body := r.send(http.MethodPost, "/v1/jobs", `{"operation":"infer"}`)
	cancelled, text := r.send(http.MethodDelete, "/v1/jobs/"+waits.JobID, "")
	require.Equal(t, http.StatusOK, cancelled.StatusCode, text)
	return resp, body
}

func provokeRecovering(t *testing.T) (*http.Response, string) {
	rec := serve(quietServer().Handler(), localRequest(http.MethodGet, "/v1/workers"))
	return rec.Result(), rec.Body.String()
}

func provokeShuttingDown(t *testing.T) (*http.Response, string) {
	r := newRig(t, rigOptions{})
	require.NoError(t, r.hive.StopWorkers(t.Context())) // as a second SIGINT does
	return r.send(http.MethodPost, "/v1/jobs", `{"operation":"hive_check"}`)
}

// reloadWith is the answer to a reload that fails with err.
func reloadWith(t *testing.T, err error) (*http.Response, string) {
	r := newRig(t, rigOptions{reload: func(context.Context, bool) (hive.Plan, error) { return hive.Plan{}, err }})
	return r.send(http.MethodPost, "/v1/reload", "", "X-Request-Id", "the-request")
}

func provokeDiskFull(t *testing.T) (*http.Response, string) {
	d := newSmallDisk(t)
	r := newRig(t, rigOptions{config: d.hold})
	d.fill()
	defer d.empty(r)
	return d.untilRefused(r)
}

// smallDisk is a file system of its own that can be full.
type smallDisk struct {
	*testing.T
	dir string
}

func newSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m")
	if errors.Is(err, syscall.EPERM) {
		skip.Because(t, "mounting a small disk needs root")
	}
	require.NoError(t, err)
	// A child that was forked meanwhile may have copies of our descriptors for a moment.
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return syscall.Unmount(dir, 0) == nil }, 20*time.Second, 10*time.Millisecond)
	})
	return &smallDisk{t, dir}
}

// hold makes the disk the hive's.
func (d *smallDisk) hold(c *hive.Config) {
	c.DataDir = filepath.Join(d.dir, "data")
	require.NoError(d, os.Mkdir(c.DataDir, 0o700))
}

func (d *smallDisk) file() string { return filepath.Join(d.dir, "full") }

func (d *smallDisk) fill() {
	d.Helper()
	f, err := os.Create(d.file())
	require.NoError(d, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	require.ErrorIs(d, err, syscall.ENOSPC)
}

// untilRefused submits until what is preallocated is used up, and returns the
// refusal. A commit frees pages for a while, so one refusal does not mean that the
// next job is refused too.
func (d *smallDisk) untilRefused(r *rig) (resp *http.Response, text string) {
	d.Helper()
	size, refused := 64<<10, 0
	for range 20000 {
		resp, text = r.send(http.MethodPost, "/v1/jobs", `{"operation":"infer","prompt":"`+strings.Repeat("x", size)+`"}`)
		if resp.StatusCode == http.StatusAccepted {
			refused = 0
			continue
		}
		size /= 2
		if refused++; refused == 50 {
			return resp, text
		}
	}
	d.Fatal("a full disk takes everything")
	return nil, ""
}

// empty makes room, and waits until the hive has seen it.
func (d *smallDisk) empty(r *rig) {
	d.Helper()
	require.NoError(d, os.Remove(d.file()))
	require.Eventually(d, func() bool {
		resp, _ := r.send(http.MethodPost, "/v1/jobs?wait=20s", `{"operation":"infer"}`)
		return resp.StatusCode == http.StatusOK
	}, 20*time.Second, 10*time.Millisecond)
}
