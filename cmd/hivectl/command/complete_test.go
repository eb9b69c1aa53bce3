package command_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command"
	"rbeehive/cmd/hivectl/command/cli"
)

// offered is what Tab offers at the end of a command line, in order and without what
// is said about it.
func offered(t *testing.T, addr string, args ...string) []string {
	t.Helper()
	r := hivectlWith(t, func(e *cli.Env) {
		e.Getenv = func(name string) string { return map[string]string{"HIVE_ADDR": addr}[name] }
	}, append([]string{"__complete"}, args...)...)
	require.Zero(t, r.code)
	require.NotContains(t, r.stderr, "hivectl: ")
	require.NotContains(t, r.stderr, "rror", "nothing is wrong while one types")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Regexp(t, `^:[0-9]+$`, lines[len(lines)-1])
	found := []string{}
	for _, line := range lines[:len(lines)-1] {
		value, _, _ := strings.Cut(line, "\t")
		found = append(found, value)
	}
	return found
}

func TestCompletion(t *testing.T) {
	job := func(id, state string) string {
		return `{"job_id":"` + id + `","operation":"worker_stop","state":"` + state + `","error":null}`
	}
	ofWorker := strings.NewReplacer(`"worker_id":null`, `"worker_id":"cpu-1-a"`, "8080", "8081", "l-1", "l-2").Replace(lease)
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers": workers(worker("cpu-1-a", "alpha", "ready", 1), worker("cpu-2-b", "", "failed", 2)),
		"GET /v1/leases":  answer(`{"leases":[` + lease + "," + ofWorker + `],"next":""}`),
		"GET /v1/types":   answer(`{"types":[{"name":"cpu","description":"the reference\nworker"},{"name":"llama","description":""}],"next":""}`),
		"GET /v1/jobs": func(w http.ResponseWriter, r *http.Request) {
			list := map[string]string{"running": job("job-2", "running"), "queued": job("job-3", "queued"), "": job("job-4", "failed") + "," + job("job-3", "queued")}
			answer(fmt.Sprintf(`{"jobs":[%s],"next":""}`, list[r.URL.Query().Get("state")]))(w, r)
		},
	})
	for line, want := range map[string]string{
		"stop |":                           "alpha cpu-1-a",
		"stop alpha |":                     "",
		"stop cpu-1-a |":                   "",
		"restart |":                        "alpha cpu-1-a cpu-2-b",
		"describe cpu-2|":                  "cpu-2-b",
		"describe alpha |":                 "",
		"logs alpha |":                     "cpu-2-b",
		"logs -f |":                        "alpha cpu-1-a cpu-2-b",
		"workers get a|":                   "alpha",
		"workers logs |":                   "alpha cpu-1-a cpu-2-b",
		"workers wait |":                   "alpha cpu-1-a cpu-2-b",
		"workers wait alpha --for |":       "ready stopped failed starting loading unhealthy stopping backoff unverified",
		"up |":                             "cpu llama",
		"up cpu |":                         "",
		"up cpu --wait |":                  "ready started",
		"up --name |":                      "",
		"types explain l|":                 "llama",
		"jobs get |":                       "job-2 job-3 job-4",
		"jobs watch job-4|":                "job-4",
		"jobs cancel |":                    "job-2 job-3",
		"jobs list --state |":              "queued running succeeded failed cancelled",
		"jobs list --after |":              "job-2 job-3 job-4",
		"leases get |":                     "8080 8081",
		"leases renew |":                   "8080",
		"leases release 8080 --lease-id |": "l-1",
		"ps -o |":                          "table json yaml",
		"events --type |":                  "state port process log progress result audit end",
		"ps |":                             "",
		"jobs |":                           "submit list get watch cancel",
		"leases re|":                       "renew release",
		"stop --addr unix:/nonexistent |":  "",
	} {
		args := strings.Split(strings.TrimSuffix(line, "|"), " ")
		got := strings.Join(offered(t, addr, args...), " ")
		if strings.HasPrefix(line, "jobs |") || strings.HasPrefix(line, "leases re|") {
			require.ElementsMatch(t, strings.Fields(want), strings.Fields(got), line) // cobra sorts commands
			continue
		}
		require.Equal(t, want, got, line)
	}
}

// While no hive answers, or one that is too slow or wants a token does, nothing is
// offered, and soon.
func TestCompletionWithoutAHive(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	require.NoError(t, err)
	defer silent.Close()
	_, recovering := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": problem(503, "recovering", "recovering")})
	_, secret := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": problem(401, "unauthorized", "a token is needed")})
	for _, addr := range []string{"unix:/nonexistent", "gopher://x", "http://" + silent.Addr().String(), recovering, secret} {
		start := time.Now()
		require.Empty(t, offered(t, addr, "stop", ""), addr)
		require.Empty(t, offered(t, addr, "logs", "-f", ""), addr)
		require.Less(t, time.Since(start), 5*time.Second, addr)
	}
}

// Completion and help work whatever the settings are.
func TestCommandsThatNeedNoSettings(t *testing.T) {
	for _, args := range [][]string{{"completion", "bash"}, {"help", "ps"}, {"__complete", "stop", ""}, {"ps", "--help"}} {
		r := hivectlWith(t, func(e *cli.Env) { e.Getenv = func(string) string { return "gopher://nonsense" } }, args...)
		require.Zero(t, r.code, "%v %s", args, r.stderr)
	}
}

// What the examples say is tried in cmd/hivectl (TestExamples).
func TestEveryCommandHasAnExample(t *testing.T) {
	seen := 0
	for _, cmd := range command.Tree().Commands() {
		seen++
		require.NotEmpty(t, cmd.Example, cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			require.NotEmpty(t, sub.Example, sub.CommandPath())
		}
	}
	require.Greater(t, seen, 18)
}
