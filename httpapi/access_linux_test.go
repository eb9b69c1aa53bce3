package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/httpapi/wire"
	"rbeehive/test/skip"
)

// Users who are nobody on this machine.
const (
	stranger = 54321
	reader   = 54322
	operator = 54323
	admin    = 54324
)

func allPolicy() *access.Policy {
	return &access.Policy{
		OwnUID: uint32(os.Geteuid()),
		Admin:  access.Set{UIDs: []uint32{admin}},
		Read:   access.Set{UIDs: []uint32{reader}},
		Types:  map[string]access.Allowed{"mine": {Set: access.Set{UIDs: []uint32{operator}}, Tokens: []string{"ci"}}},
	}
}

// as returns a rig whose requests are another user's: a socket belongs to whom its
// inode does, which root may change (fchown(2)).
func (r *rig) as(uid int) *rig {
	r.Helper()
	skip.UnlessRoot(r.T, "only root can be another user")
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return c.Control(func(fd uintptr) { err = unix.Fchown(int(fd), uid, uid) })
	}}
	other := *r
	other.client = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dialer.DialContext(ctx, network, addr)
				return conn, err
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r.Cleanup(other.client.CloseIdleConnections)
	return &other
}

// Each operation, asked for by each: a stranger gets nothing but what is public, who
// may look cannot change anything, and what nobody thought of is for admins.
func TestEveryRouteAsksWhoCalls(t *testing.T) {
	r := newRig(t, rigOptions{access: allPolicy(), shutdown: func() {}, reload: func(context.Context, bool) (hive.Plan, error) { return hive.Plan{}, nil }},
		entry(t, "mine"))
	r.spawn("mine")
	before := r.changeable()
	public := []string{"GET /", "GET /docs", "GET /docs/{file}", "GET /health", "GET /openapi.json", "GET /openapi.yaml", "GET /version"}
	reads := []string{
		"GET /capabilities", "GET /metrics", "GET /v1/audit", "GET /v1/capabilities", "GET /v1/events", "GET /v1/heartbeats/stream", "GET /v1/hive",
		"GET /v1/jobs", "GET /v1/jobs/{id}", "GET /v1/jobs/{id}/events", "GET /v1/jobs/{id}/stream", "GET /v1/leases", "GET /v1/leases/{port}", "GET /v1/ports",
		"GET /v1/routes", "GET /v1/types", "GET /v1/types/{name}", "GET /v1/workers", "GET /v1/workers/{ref}", "GET /v1/workers/{ref}/events", "GET /v1/workers/{ref}/logs", "POST /v1/jobs", "POST /v1/routes/replicas/{worker_id}",
	}
	operates := []string{"DELETE /v1/jobs/{id}", "DELETE /v1/leases/{port}", "POST /v1/leases", "PUT /v1/leases/{port}"}
	for _, c := range []struct {
		uid  int
		none int // status where the right is missing
		may  []string
	}{
		{stranger, 401, nil}, {reader, 403, reads}, {operator, 403, append(append([]string{}, reads...), operates...)},
	} {
		other := r.as(c.uid)
		for _, operation := range r.server.Operations() {
			method, path, _ := strings.Cut(operation, " ")
			path = placeholder.ReplaceAllString(path, "nothing")
			if strings.Contains(operation, "stream") || operation == "GET /v1/events" {
				path += "?after=latest" // and it has no end: the header is enough
			}
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, method, r.url+path, nil)
			require.NoError(t, err)
			resp, err := other.client.Do(req)
			require.NoError(t, err, operation)
			status := resp.StatusCode
			cancel()
			resp.Body.Close()
			switch {
			case contains(public, operation), contains(c.may, operation):
				require.NotContains(t, []int{401, 403}, status, "%d: %s", c.uid, operation)
			default:
				require.Equal(t, c.none, status, "%d: %s", c.uid, operation)
			}
		}
	}
	require.Equal(t, before, r.changeable(), "nothing has changed")
}

// changeable is what a caller could have changed.
func (r *rig) changeable() string {
	r.Helper()
	return r.get("/v1/workers", 200) + r.get("/v1/leases", 200) + r.get("/v1/tokens", 200)
}

func contains(list []string, text string) bool {
	for _, s := range list {
		if s == text {
			return true
		}
	}
	return false
}

func (r *rig) post(path, body string, status int, header ...string) string {
	r.Helper()
	resp, answer := r.send(http.MethodPost, path, body, header...)
	require.Equal(r, status, resp.StatusCode, "%s %s: %s", path, body, answer)
	return answer
}

func TestWhoMayUseAType(t *testing.T) {
	r := newRig(t, rigOptions{access: allPolicy()}, entry(t, "mine"), entry(t, "other"))
	theirs, mine := r.spawn("other"), r.as(operator)
	for _, body := range []string{
		`{"operation":"worker_spawn","worker":"other"}`,
		`{"operation":"worker_stop","worker_id":"` + theirs.WorkerID + `"}`,
		`{"operation":"worker_restart","worker_id":"` + theirs.WorkerID + `"}`,
		`{"operation":"worker_stop","worker_id":"nothing"}`,
		fmt.Sprintf(`{"operation":"worker_process_delete","pid":%d}`, *theirs.PID),
		`{"operation":"hive_check"}`, `{"operation":"worker_remove","worker_id":"cpu"}`, `{"operation":"worker_install","worker_id":"vllm"}`,
		`{"operation":"model_download","model":"a/b"}`, `{"operation":"model_delete","id":"a/b"}`,
	} {
		require.Contains(t, mine.post("/v1/jobs", body, 403), `"code":"forbidden"`, body)
	}
	require.Contains(t, r.as(reader).post("/v1/jobs", `{"operation":"worker_spawn","worker":"mine"}`, 403), "may only look")
	r.as(reader).post("/v1/jobs", `{"operation":"worker_process_list"}`, 202)

	require.Contains(t, mine.post("/v1/jobs", `{"operation":"worker_spawn","worker":"mine","model":"/etc/shadow"}`, 403), "only an administrator of this hive may name files")

	w := mine.spawn("mine")
	job := decode[wire.Jobs](t, r.get("/v1/jobs?operation=worker_spawn", 200)).Jobs[0]
	require.Equal(t, uint32(operator), *job.RequestedBy.UID)
	require.Equal(t, "uid 54323", job.RequestedBy.Name)
	require.Contains(t, r.get("/v1/jobs/"+job.JobID+"/events", 200), `worker_spawn queued by uid 54323`)
	require.Equal(t, "succeeded", mine.do(`{"operation":"worker_stop","worker_id":"`+w.WorkerID+`"}`).State)
	require.Contains(t, r.logged(), "uid=54323")

	// They remove what is left of their own, and learn nothing of others'.
	for _, ref := range []string{theirs.WorkerID, "nothing"} {
		resp, body := mine.send(http.MethodDelete, "/v1/workers/"+ref, "")
		require.Equal(t, 403, resp.StatusCode, body)
		require.Contains(t, body, "workers of that type, or there is none")
	}
	resp, body := mine.send(http.MethodDelete, "/v1/workers/"+w.WorkerID, "")
	require.Equal(t, 200, resp.StatusCode, body)
	require.JSONEq(t, `{"worker_id":"`+w.WorkerID+`","status":"removed"}`, body)
	require.Contains(t, r.get("/v1/workers/"+w.WorkerID, 404), `"code":"not_found"`)
	resp, body = r.send(http.MethodDelete, "/v1/workers/"+theirs.WorkerID, "")
	require.Equal(t, 409, resp.StatusCode, body)
	require.Contains(t, body, "only one that has ended can be removed: stop it first")

	resp, body = mine.send(http.MethodDelete, "/v1/jobs/"+job.JobID, "")
	require.Equal(t, 409, resp.StatusCode, "theirs: %s", body)
	first := decode[wire.Jobs](t, r.get("/v1/jobs?operation=worker_spawn", 200)).Jobs[1]
	resp, body = mine.send(http.MethodDelete, "/v1/jobs/"+first.JobID, "")
	require.Equal(t, 403, resp.StatusCode, body)
	require.Contains(t, body, "only they and admins may cancel it")
}

// A request that says that it was passed on is nobody's, whoever has connected.
func TestForwardedRequestsAreNobodys(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, name := range []string{"Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "x-forwarded-proto", "CF-Connecting-IP", "Tailscale-User-Login"} {
		resp, body := r.send(http.MethodGet, "/v1/hive", "", name, "1.1 proxy")
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode, "%s: %s", name, body)
	}
}

func TestTokens(t *testing.T) {
	r := newRig(t, rigOptions{access: allPolicy()}, entry(t, "mine"), entry(t, "other"))
	add := func(body string) (wire.TokenSecret, []string) {
		answer := decode[wire.TokenSecret](t, r.post("/v1/tokens", body, 201))
		require.Regexp(t, `^hive_[A-Z2-7]{52}$`, answer.Secret)
		return answer, []string{"Authorization", "Bearer " + answer.Secret}
	}
	for body, want := range map[string]string{
		`{"name":"","level":"read"}`:                    "name: is",
		`{"name":"a b","level":"read"}`:                 "name: is",
		`{"name":"token-file","level":"read"}`:          "stands for the token in the data directory",
		`{"name":"a","level":"none"}`:                   "level: is",
		`{"name":"a","level":"root"}`:                   "level: is",
		`{"name":"a","level":"operate"}`:                "types: is for the level operate",
		`{"name":"a","level":"read","types":["mine"]}`:  "types: is for the level operate",
		`{"name":"a","level":"operate","types":["no"]}`: `types: no worker type`,
		`{"name":"a","level":"read","expires_in":"1s"}`: "expires_in: is",
		`{"name":"a","level":"read","expires":"1h"}`:    "is not a field of a token",
	} {
		require.Contains(t, r.post("/v1/tokens", body, 400), want, body)
	}
	_, look := add(`{"name":"grafana","level":"read"}`)
	_, use := add(`{"name":"bot","level":"operate","types":["other"],"expires_in":"1h"}`)
	_, all := add(`{"name":"boss","level":"admin"}`)
	_, ci := add(`{"name":"ci","level":"read"}`) // the entry mine allows it
	require.Contains(t, r.post("/v1/tokens", `{"name":"ci","level":"read"}`, 409), "there is a token ci already")

	other := r.as(stranger)
	spawn := func(typ string) string { return `{"operation":"worker_spawn","worker":"` + typ + `"}` }
	other.post("/v1/jobs", spawn("mine"), 403, look...)
	other.post("/v1/jobs", spawn("mine"), 403, use...)
	other.post("/v1/jobs?wait=20s", spawn("other"), 200, use...)
	other.post("/v1/jobs?wait=20s", spawn("mine"), 200, ci...)
	other.post("/v1/tokens", `{"name":"x","level":"admin"}`, 403, ci...)
	other.post("/v1/tokens", `{"name":"x","level":"admin"}`, 201, all...)
	other.post("/v1/jobs", spawn("mine"), 401)
	job := decode[wire.Jobs](t, r.get("/v1/jobs", 200)).Jobs[0]
	require.Equal(t, "token ci", job.RequestedBy.Name)
	require.Equal(t, "ci", *job.RequestedBy.Token)
	require.Contains(t, r.logged(), "token=ci")

	// A secret is shown once, and nowhere kept or said.
	secret := strings.TrimPrefix(all[1], "Bearer ")
	require.NotContains(t, r.get("/v1/tokens", 200), secret)
	require.NotContains(t, r.logged(), secret)
	raw, err := os.ReadFile(r.state())
	require.NoError(t, err)
	require.False(t, bytes.Contains(raw, []byte(secret)))

	// A new secret, and the old one no longer counts; a revoked one, with its streams.
	stream := other.open("/v1/events?after=latest", look...)
	fresh := decode[wire.TokenSecret](t, r.post("/v1/tokens/grafana", "", 200))
	_, err = io.ReadAll(stream.Body)
	require.NoError(t, err, "it ends")
	resp, _ := other.send(http.MethodGet, "/v1/hive", "", look...)
	require.Equal(t, 401, resp.StatusCode)
	look[1] = "Bearer " + fresh.Secret
	resp, _ = other.send(http.MethodGet, "/v1/hive", "", look...)
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = r.send(http.MethodDelete, "/v1/tokens/grafana", "")
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = other.send(http.MethodGet, "/v1/hive", "", look...)
	require.Equal(t, 401, resp.StatusCode)
	resp, _ = r.send(http.MethodDelete, "/v1/tokens/grafana", "")
	require.Equal(t, 404, resp.StatusCode)

	// They outlive hive.
	r.shut()
	r.begin()
	resp, _ = other.withURL(r.url).send(http.MethodGet, "/v1/hive", "", use...)
	require.Equal(t, 200, resp.StatusCode)
}

func (r *rig) withURL(url string) *rig { r.url = url; return r }

func TestLeasesBelongToWhoAcquiredThem(t *testing.T) {
	r := newRig(t, rigOptions{access: allPolicy(), config: func(c *hive.Config) { c.Ports.PerUser = 2 }})
	theirs := decode[wire.Lease](t, r.post("/v1/leases", `{"ttl":"1h"}`, 201))
	mine := r.as(operator)
	l := decode[wire.Lease](t, mine.post("/v1/leases", `{"ttl":"1h"}`, 201))
	require.Equal(t, uint32(operator), *l.RequestedBy.UID)
	require.Contains(t, mine.post("/v1/leases", `{"ttl":"1h","ports":2}`, 403), "has leased 1 ports and may have 2 at a time (ports.per_user)")

	release := func(r *rig, l wire.Lease) (int, string) {
		resp, body := r.send(http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", l.Port, l.LeaseID), "")
		return resp.StatusCode, body
	}
	status, body := release(mine, theirs)
	require.Equal(t, 403, status, body)
	resp, body := mine.send(http.MethodPut, fmt.Sprintf("/v1/leases/%d", theirs.Port), `{"lease_id":"`+theirs.LeaseID+`"}`)
	require.Equal(t, 403, resp.StatusCode, body)
	require.Contains(t, body, "only they and admins may renew or release it")

	status, body = release(mine, l)
	require.Equal(t, 200, status, body)
	mine.post("/v1/leases", `{"ttl":"1h","ports":2}`, 201) // there is room again
	mine.post("/v1/leases", `{"ttl":"1h"}`, 403)
	r.shut()
	r.begin()
	mine.withURL(r.url).post("/v1/leases", `{"ttl":"1h"}`, 403) // also after a start
	status, body = release(r.as(admin).withURL(r.url), theirs)
	require.Equal(t, 200, status, body)
}

// What somebody without rights may have is taken fast, and their body is not waited for.
func TestStrangersDoNotHoldConnections(t *testing.T) {
	r := newRig(t, rigOptions{access: allPolicy()})
	other := r.as(stranger)
	conn, err := other.client.Transport.(*http.Transport).DialContext(t.Context(), "tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
	require.Contains(t, readAll(t, conn), "Connection: close")
}
