package command_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAcquireRenewRelease(t *testing.T) {
	var released string
	f, addr := serve(t, map[string]http.HandlerFunc{
		"POST /v1/leases":     answer(lease),
		"PUT /v1/leases/8080": answer(lease),
		"DELETE /v1/leases/8080": func(w http.ResponseWriter, r *http.Request) {
			released = r.URL.Query().Get("lease_id")
			answer(`{"port":8080,"lease_id":"l-1","status":"released"}`)(w, r)
		},
		"DELETE /v1/leases/8081": answer(`{"port":8081,"lease_id":"l-2","status":"quarantined"}`),
	})
	r := hivectl(t, addr, "leases", "acquire", "--ttl", "90s", "--port", "8188", "--ports", "2", "--owner", "bob")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "port      8080\nlease     l-1\nkind      ttl\n")
	require.JSONEq(t, `{"ttl":"1m30s","port":8188,"ports":2,"owner":"bob"}`, f.sent()[0])
	require.Equal(t, "8080\n", hivectl(t, addr, "leases", "acquire", "--ttl", "1s", "-q").stdout)

	r = hivectl(t, addr, "leases", "acquire", "--pid", fmt.Sprint(os.Getpid()))
	require.Zero(t, r.code, r.stderr)
	var sent struct {
		PID       int    `json:"pid"`
		StartTime uint64 `json:"start_time"`
	}
	require.NoError(t, json.Unmarshal([]byte(f.sent()[2]), &sent))
	require.Equal(t, os.Getpid(), sent.PID)
	require.NotZero(t, sent.StartTime, "the start time says which process of that PID is meant")

	r = hivectl(t, addr, "leases", "renew", "8080", "--lease-id", "l-1")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "expires   2026-01-0")
	r = hivectl(t, addr, "leases", "release", "8080", "--lease-id", "l-1")
	require.Equal(t, result{0, "port 8080 is free\n", ""}, r)
	require.Equal(t, "l-1", released)
	r = hivectl(t, addr, "leases", "release", "8081", "--lease-id", "l-2")
	require.Contains(t, r.stdout, "the port is quarantined until that stops\n")
}

func TestHoldingMistakes(t *testing.T) {
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "--pid or --ttl is required", []string{"acquire"}},
		{2, "--pid and --ttl exclude each other", []string{"acquire", "--pid", "7", "--ttl", "1s"}},
		{2, "--pid -3: want the PID of a process", []string{"acquire", "--pid", "-3"}},
		{2, "--ttl -1s: want a positive time", []string{"acquire", "--ttl", "-1s"}},
		{3, fmt.Sprintf("no process %d", gone.Process.Pid), []string{"acquire", "--pid", fmt.Sprint(gone.Process.Pid)}},
		{2, "--lease-id is required", []string{"renew", "8080"}},
		{2, "--lease-id is required", []string{"release", "8080"}},
		{2, `"x" is not a port`, []string{"release", "x", "--lease-id", "l"}},
		{2, "accepts 1 arg(s), received 0", []string{"renew"}},
	} {
		r := hivectl(t, "", append([]string{"leases"}, c.args...)...)
		require.Equal(t, c.code, r.code, c.args)
		require.Contains(t, r.stderr, c.want)
		require.Empty(t, r.stdout)
	}
	_, addr := serve(t, map[string]http.HandlerFunc{"POST /v1/leases": problem(409, "ports_exhausted", "no ports available (all 8080-8082 in use)")})
	r := hivectl(t, addr, "leases", "acquire", "--ttl", "30s")
	require.Equal(t, 1, r.code)
	require.Equal(t, "hivectl: no ports available (all 8080-8082 in use)\nhint: stop a worker (hivectl ps), release a lease (hivectl leases list), or widen ports.range in the configuration\n", r.stderr)
}
