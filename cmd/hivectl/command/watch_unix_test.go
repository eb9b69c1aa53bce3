//go:build unix

package command_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

// changing answers GET path with one of answers after the other; when the last one has
// been given it is Ctrl-C.
func changing(t *testing.T, path string, answers ...http.HandlerFunc) string {
	var asked atomic.Int32
	_, addr := serve(t, map[string]http.HandlerFunc{"GET " + path: func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1))
		if n > len(answers) {
			interrupt(t)
			<-r.Context().Done()
			return
		}
		answers[n-1](w, r)
	}})
	return addr
}

func away() http.HandlerFunc { return problem(503, "shutting_down", "shutting down") }

// What is printed where there is no terminal: each row as it is at first, then those
// that have changed, and those that are gone. It outlives an outage, and Ctrl-C is 0.
func TestWatchForPrograms(t *testing.T) {
	a, b := worker("cpu-8080-a", "", "ready", 8080), worker("cpu-8081-b", "", "loading", 8081)
	answers := []http.HandlerFunc{
		workers(a, b), workers(a, b), away(), workers(a, worker("cpu-8081-b", "", "ready", 8081)),
		workers(a, worker("cpu-8081-b", "", "stopped", 8081)),
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `WORKER      NAME  STATE    PORT  PID   AGE   MODEL  DEVICE
cpu-8080-a  -     ready    8080  4711  1m0s  -      -
cpu-8081-b  -     loading  8081  4711  1m0s  -      -
cpu-8081-b  -     ready    8081  4711  1m0s  -      -
cpu-8081-b  -     gone     8081  4711  1m0s  -      -
`},
		{[]string{"-q"}, "cpu-8080-a\ncpu-8081-b\ncpu-8081-b\n"},
		{[]string{"-o", "json"}, `{"workers":[` + a + "," + b + `],"next":""}
{"workers":[` + a + "," + worker("cpu-8081-b", "", "ready", 8081) + `],"next":""}
{"workers":[` + a + `],"next":""}
`},
	} {
		r := hivectl(t, changing(t, "/v1/workers", answers...), append([]string{"ps", "--watch"}, c.args...)...)
		require.Equal(t, result{0, c.want, "hive is not reachable; waiting for it\n"}, r)
	}
	r := hivectl(t, changing(t, "/v1/workers", answers[0]), "workers", "list", "-w", "-o", "yaml")
	require.Zero(t, r.code)
	require.Equal(t, 1, strings.Count(r.stdout, "---\nworkers:\n"))
}

// A job that is not on the page any more is not gone.
func TestWatchOfAPage(t *testing.T) {
	page := func(id string) http.HandlerFunc {
		return answer(`{"jobs":[{"job_id":"` + id + `","operation":"worker_stop","state":"failed","error":null,"created_at":"2026-01-02T11:00:00.000Z"}],"next":"` + id + `"}`)
	}
	r := hivectl(t, changing(t, "/v1/jobs", page("job-1"), page("job-2")), "jobs", "list", "--limit", "1", "-w")
	require.Equal(t, result{0, "JOB    OPERATION    STATE   AGE   BY  ERROR\njob-1  worker_stop  failed  1h0m  -   -\njob-2  worker_stop  failed  1h0m  -   -\n", ""}, r)
}

// A daemon that is not there at the beginning, or refuses, is said at once.
func TestWatchThatCannotBegin(t *testing.T) {
	require.Equal(t, 4, hivectl(t, "unix:/nonexistent", "leases", "list", "--watch").code)
	require.Equal(t, 2, hivectl(t, changing(t, "/v1/jobs", answer(`{"jobs":[],"next":""}`), problem(400, "bad_request", "no")), "jobs", "list", "-w").code)
}

// On a terminal the table is drawn over the one before, no taller than the screen; at
// the end the screen is given back and the last table stays.
func TestWatchOnATerminal(t *testing.T) {
	var list []string
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		list = append(list, worker("cpu-"+id, "", "ready", 8080))
	}
	size := [2]int{40, 6}
	addr := changing(t, "/v1/workers", workers(list...), workers(list...), workers(list[0]))
	r := hivectlWith(t, func(e *cli.Env) {
		e.Width = 200
		e.Size = func() (int, int) { return size[0], size[1] }
		e.Getenv = func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
	}, "--addr", addr, "ps", "-w")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "\x1b[?1049h\x1b[HWORKER  NAME  STATE  PORT  PID   AGE\x1b[K\n"+
		"cpu-a   -     ready  8080  4711  1m0s\x1b[K\ncpu-b   -     ready  8080  4711  1m0s\x1b[K\n4 more\x1b[K\n\x1b[J"+
		"\x1b[HWORKER  NAME  STATE  PORT  PID   AGE\x1b[K\ncpu-a   -     ready  8080  4711  1m0s\x1b[K\n\x1b[J"+
		"\x1b[?1049lWORKER  NAME  STATE  PORT  PID   AGE\ncpu-a   -     ready  8080  4711  1m0s\n", r.stdout)

	// A terminal that knows no such sequences gets lines.
	r = hivectlWith(t, func(e *cli.Env) {
		e.Width = 80
		e.Getenv = func(name string) string { return map[string]string{"TERM": "dumb"}[name] }
	}, "--addr", changing(t, "/v1/workers", workers(list[0])), "ps", "-w")
	require.NotContains(t, r.stdout, "\x1b")
}
