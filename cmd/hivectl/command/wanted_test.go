package command_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func wanted(name, state, reason string) string {
	return `{"name":"` + name + `","state":"` + state + `","reason":"` + reason + `","failed":1,"next_try":null,"job_id":null,"since":"2026-01-02T11:59:00.000Z"}`
}

// listing is the list of workers with what is wanted.
func listing(workers, wanted string) http.HandlerFunc {
	return answer(`{"workers":[` + workers + `],"wanted":[` + wanted + `],"next":""}`)
}

func TestPSShowsWhatIsWanted(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{
		// One that has a worker already is shown once.
		"GET /v1/workers": listing(worker("cpu-1", "cpu", "ready", 1), wanted("late", "backoff", "/mnt/x does not exist")+","+wanted("cpu", "starting", "")),
	})
	r := hivectl(t, addr, "ps")
	require.Zero(t, r.code, r.stderr)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Len(t, lines, 3, r.stdout)
	require.Regexp(t, `^- +late +backoff .*/mnt/x does not exist$`, lines[2])
	require.Equal(t, "cpu-1\n", hivectl(t, addr, "ps", "-q").stdout)
	require.Contains(t, hivectl(t, addr, "ps", "-o", "json").stdout, `"wanted":[{"name":"late"`)
}

func TestWorkersWaitForWhatIsWanted(t *testing.T) {
	var asked atomic.Int32
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers": func(w http.ResponseWriter, r *http.Request) {
			switch asked.Add(1) {
			case 1:
				listing("", wanted("web", "queued", "it starts after db, which is loading"))(w, r)
			case 2:
				problem(503, "recovering", "recovering")(w, r)
			default:
				listing(worker("web-1", "web", "ready", 1), "")(w, r)
			}
		},
		"GET /v1/workers/web-1": answer(worker("web-1", "web", "ready", 1)),
	})
	r := hivectl(t, addr, "workers", "wait", "web")
	require.Zero(t, r.code, r.stderr)

	_, addr = serve(t, map[string]http.HandlerFunc{"GET /v1/workers": listing("", wanted("web", "backoff", "port 5800 is held by nc"))})
	r = hivectl(t, addr, "workers", "wait", "web", "--timeout", "300ms")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "web is backoff after 300ms, not ready: port 5800 is held by nc")

	_, addr = serve(t, map[string]http.HandlerFunc{"GET /v1/workers": listing("", wanted("web", "failed", "given up"))})
	r = hivectl(t, addr, "workers", "wait", "web")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "web could not be started: given up")
}

func TestStatusSaysWhatIsWanted(t *testing.T) {
	never := worker("cpu-9", "", "failed", 9) // its caller was told
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/hive": answer(hiveJSON), "GET /v1/ports": answer(portsJSON), "GET /v1/types": answer(`{"types":[],"next":""}`),
		"GET /v1/workers": listing(never, wanted("late", "backoff", "no mount")+","+wanted("next", "queued", "")),
		"GET /v1/leases":  answer(`{"leases":[],"next":""}`), "GET /v1/audit": answer(noFindings),
		"GET /v1/doctor": answer(`{"checks":[` + strings.Replace(warningJSON, "squatters", "wanted", 1) + `],"warnings":1}`),
	})
	r := hivectl(t, addr, "status")
	require.Equal(t, 1, r.code)
	_, issues, _ := strings.Cut(r.stdout, "\n\n")
	require.Equal(t, "1 issue\nwanted    late: backoff: no mount\n  do      nothing if it passes: hive tries again; hivectl reload tries at once\n", issues, "once, though the doctor reports it too")
}

// No command acts on the dead while a living worker answers to the same word.
func TestTheLivingGoBeforeTheDeadOfThatName(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/workers":                   workers(worker("embed-5800-aaaaaa", "embed", "stopped", 5800), worker("embed-5803-bbbbbb", "", "ready", 5803)),
		"GET /v1/workers/embed-5803-bbbbbb": answer(worker("embed-5803-bbbbbb", "", "ready", 5803)),
	})
	r := hivectl(t, addr, "workers", "get", "embed", "-q")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "embed-5803-bbbbbb\n", r.stdout)
}
