package command_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// becoming is an API whose worker has one state after the other; "away" is a
// hive that recovers, "gone" one that has forgotten the worker.
func becoming(t *testing.T, states ...string) string {
	var asked atomic.Int32
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers": workers(worker("w-1", "", "loading", 8080)),
		"GET /v1/workers/w-1": func(w http.ResponseWriter, r *http.Request) {
			state := states[min(int(asked.Add(1)), len(states))-1]
			switch state {
			case "away":
				problem(503, "shutting_down", "shutting down")(w, r)
			case "gone":
				problem(404, "not_found", "no worker w-1")(w, r)
			default:
				answer(strings.Replace(worker("w-1", "", state, 8080), `"reason":null`, `"reason":"because"`, 1))(w, r)
			}
		},
	})
	return addr
}

func TestWorkersWait(t *testing.T) {
	for _, c := range []struct {
		goal   string
		states []string
		code   int
		stdout string
		stderr string
	}{
		{"ready", []string{"ready"}, 0, "w-1 is ready\n", ""},
		{"ready", []string{"starting", "loading", "ready"}, 0, "w-1 is ready\n", ""},
		{"ready", []string{"loading", "away", "away", "ready"}, 0, "w-1 is ready\n", "hive is not reachable; waiting for it\n"},
		{"ready", []string{"loading", "failed"}, 1, "", "hivectl: w-1 is failed: because\nhint: hivectl logs w-1\n"},
		{"ready", []string{"loading", "gone"}, 3, "", "hivectl: no worker w-1\nhint: see hivectl workers list, leases list and jobs list\n"},
		{"stopped", []string{"ready", "stopping", "stopped"}, 0, "w-1 is stopped\n", ""},
		{"stopped", []string{"ready", "failed"}, 0, "w-1 is failed\n", ""},
	} {
		r := hivectl(t, becoming(t, c.states...), "workers", "wait", "w-1", "--for", c.goal)
		require.Equal(t, result{c.code, c.stdout, c.stderr}, r, "%+v", c)
	}
}

func TestWorkersWaitGivesUp(t *testing.T) {
	for _, states := range [][]string{{"loading"}, {"loading", "away"}} {
		r := hivectl(t, becoming(t, states...), "workers", "wait", "w-1", "--timeout", "250ms")
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "hivectl: w-1 is loading after 250ms, not ready\n")
	}
}

func TestWorkersWaitUsage(t *testing.T) {
	for _, args := range [][]string{{"--for", "never"}, {"--timeout", "-1s"}, {"--timeout", "5"}, {""}} {
		r := hivectl(t, becoming(t, "ready"), append([]string{"workers", "wait", "w-1"}, args...)...)
		require.Equal(t, 2, r.code, args)
	}
}

func TestWorkersWaitForPrograms(t *testing.T) {
	r := hivectl(t, becoming(t, "ready"), "workers", "wait", "w-1", "-q")
	require.Equal(t, result{0, "w-1\n", ""}, r)
	r = hivectl(t, becoming(t, "ready"), "workers", "wait", "w-1", "-o", "json")
	require.Contains(t, r.stdout, `"news":true`)
}

func TestWorkersListAndGet(t *testing.T) {
	addr := becoming(t, "ready")
	r := hivectl(t, addr, "workers", "list")
	require.Equal(t, "WORKER  NAME  STATE    PORT  PID   AGE   MODEL  DEVICE  REASON\nw-1     -     loading  8080  4711  1m0s  -      -       -\n", r.stdout)
	r = hivectl(t, addr, "workers", "get", "w")
	require.Contains(t, r.stdout, "worker    w-1\nname      -\ntype      cpu\nstate     ready\nreason    because\n")
}
