package command_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every error says what to do next, and each kind has its exit code.
func TestEveryErrorHasAHint(t *testing.T) {
	routes := map[string]http.HandlerFunc{
		"GET /v1/workers":       workers(worker("w-1", "", "ready", 1), worker("w-2", "", "failed", 2)),
		"GET /v1/workers/w-2":   answer(worker("w-2", "", "failed", 2)),
		"POST /v1/jobs":         problem(400, "bad_request", "port: a port from 1 to 65535 is expected"),
		"GET /v1/jobs":          problem(507, "disk_full", "no space"),
		"DELETE /v1/jobs/job-1": problem(409, "conflict", "job-1 has ended"),
		"GET /v1/types/nobody":  problem(400, "unknown_worker_type", "no worker type nobody"),
		"POST /v1/reload":       problem(409, "invalid_configuration", "hive.yaml:3: unknown key"),
		"GET /v1/ports":         problem(503, "shutting_down", "shutting down"),
		"GET /v1/doctor":        problem(500, "internal", "internal error"),
		"GET /v1/hive":          problem(403, "forbidden_host", "host evil is not allowed"),
		"GET /v1/leases":        problem(401, "unauthorized", "a token is needed"),
	}
	_, addr := serve(t, routes)
	for _, c := range []struct {
		code int
		args string
	}{
		{1, "jobs list"},
		{1, "jobs cancel job-1"},
		{1, "reload"},
		{1, "doctor"},
		{1, "status -q"},
		{1, "leases list"},
		{1, "workers wait w-2"},
		{2, "up cpu"},
		{2, "frobnicate"},
		{2, "ps --frobnicate"},
		{2, "ps -o xml"},
		{2, "ps -q -o json"},
		{2, "stop"},
		{2, "stop w"},
		{2, "workers"},
		{2, "workers wait w-1 --for never"},
		{2, "workers wait w-1 --timeout -1s"},
		{2, "logs w-1 --tail -1"},
		{2, "leases get x"},
		{2, "leases acquire"},
		{2, "leases acquire --ttl -1s"},
		{2, "leases renew 8080"},
		{2, "jobs list --limit -1"},
		{2, "jobs submit {"},
		{2, "up cpu --wait never"},
		{2, "up cpu --param x"},
		{2, "ps --token-file /nonexistent"},
		{2, "ps --ca-file /nonexistent"},
		{3, "stop nobody"},
		{3, "describe nobody"},
		{3, "logs nobody"},
		{3, "jobs get job-9"},
		{3, "leases get 8081"},
		{3, "types explain nobody"},
		{4, "ports"},
		{4, "--addr unix:/nonexistent ps"},
		{4, "--addr 127.0.0.1:1 up cpu"},
	} {
		r := hivectl(t, addr, strings.Fields(c.args)...)
		require.Equal(t, c.code, r.code, "%s: %s", c.args, r.stderr)
		require.Regexp(t, `^hivectl: [^\n]+\nhint: [^\n]+\n$`, r.stderr, c.args)
		require.Empty(t, r.stdout, c.args)
	}
}

// The contract's codes, of refusals and of failed jobs, have a hint each.
func TestEveryCodeHasAHint(t *testing.T) {
	contract, err := os.ReadFile("../../../httpapi/openapi.yaml")
	require.NoError(t, err)
	problems := codesOf(t, string(contract), "    Problem:\n")
	failures := codesOf(t, string(contract), "    JobError:\n")
	require.Greater(t, len(problems), 18)
	require.Greater(t, len(failures), 15)
	for _, code := range problems {
		_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/ports": problem(418, code, "d")})
		if code == "recovering" {
			continue // is waited for
		}
		r := hivectl(t, addr, "ports")
		require.NotZero(t, r.code)
		require.Contains(t, r.stderr, "\nhint: ", code)
	}
	for _, code := range failures {
		routes := spawning()
		routes["GET /v1/jobs/job-1"] = answer(`{"job_id":"job-1","operation":"worker_spawn","state":"failed","error":{"code":"` + code + `","message":"m","log":[]}}`)
		_, addr := serve(t, routes)
		r := hivectl(t, addr, "jobs", "watch", "-q", "job-1")
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "\nhint: ", code)
	}
}

// codesOf are the codes that the contract lists for the property code of a schema.
func codesOf(t *testing.T, contract, schema string) []string {
	t.Helper()
	_, rest, found := strings.Cut(contract, schema)
	require.True(t, found, schema)
	_, rest, found = strings.Cut(rest, "\n        code:\n")
	require.True(t, found, schema)
	text, _, _ := strings.Cut(rest, "More may be added")
	var codes []string
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(text, -1) {
		codes = append(codes, m[1])
	}
	return codes
}
