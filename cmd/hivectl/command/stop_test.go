package command_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// stopAPI is an API with workers. Each stop is a job named after its worker;
// it fails if the worker is called bad.
func stopAPI(t *testing.T, list ...string) (*fake, string) {
	f, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(list...)})
	f.routes["POST /v1/jobs"] = func(w http.ResponseWriter, r *http.Request) {
		body := r.Header.Get(bodyHeader)
		_, id, _ := strings.Cut(body, `"worker_id":"`)
		id, _, _ = strings.Cut(id, `"`)
		answer(`{"job_id":"job-`+id+`"}`)(w, r)
	}
	for _, id := range []string{"cpu-8080-a", "cpu-8081-b", "cpu-8082-bad"} {
		end := `"state":"succeeded","error":null`
		if strings.Contains(id, "bad") {
			end = `"state":"failed","error":{"code":"stop_incomplete","message":"it lives","log":[]}`
		}
		f.routes["GET /v1/jobs/job-"+id+"/events"] = events("end done")
		f.routes["GET /v1/jobs/job-"+id] = answer(fmt.Sprintf(`{"job_id":"job-%s","operation":"worker_stop",%s}`, id, end))
	}
	return f, addr
}

func TestStop(t *testing.T) {
	f, addr := stopAPI(t, worker("cpu-8080-a", "alpha", "ready", 8080), worker("cpu-8081-b", "", "stopped", 8081))
	r := hivectl(t, addr, "stop", "alpha", "cpu-8080-a", "cpu-8081")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "cpu-8080-a (alpha) stopped, port 8080 is free\n")
	require.Contains(t, r.stdout, "cpu-8081-b is stopped already\n")
	require.Equal(t, []string{`{"operation":"worker_stop","worker_id":"cpu-8080-a"}`}, f.sent(), "once, though named twice")
}

func TestStopIsAllOrNothing(t *testing.T) {
	f, addr := stopAPI(t, worker("cpu-8080-a", "alpha", "ready", 8080))
	r := hivectl(t, addr, "stop", "alpha", "beta")
	require.Equal(t, 3, r.code)
	require.Equal(t, "hivectl: no worker \"beta\"\nhint: see hivectl workers list\n", r.stderr)
	require.Empty(t, f.sent())
}

func TestStopOfOneThatFails(t *testing.T) {
	_, addr := stopAPI(t, worker("cpu-8082-bad", "", "ready", 8082))
	r := hivectl(t, addr, "stop", "cpu")
	require.Equal(t, 1, r.code)
	require.Equal(t, "hivectl: worker_stop failed: stop_incomplete: it lives\nhint: hivectl describe WORKER shows what is left; hivectl doctor shows why hive cannot end it\n", r.stderr)
}

func TestDownReportsEach(t *testing.T) {
	list := []string{worker("cpu-8080-a", "", "ready", 8080), worker("cpu-8081-b", "", "loading", 8081), worker("cpu-8082-bad", "", "ready", 8082), worker("cpu-8083-c", "", "failed", 8083)}
	f, addr := stopAPI(t, list...)
	r := hivectl(t, addr, "down")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stdout, "cpu-8080-a stopped, port 8080 is free\n")
	require.Contains(t, r.stdout, "cpu-8081-b stopped, port 8081 is free\n")
	require.Equal(t, "cpu-8082-bad: worker_stop failed: stop_incomplete: it lives\nhivectl: 1 of 3 workers were not stopped\n", r.stderr)
	require.Len(t, f.sent(), 3)

	r = hivectl(t, addr, "down", "-q")
	require.Equal(t, "cpu-8080-a\ncpu-8081-b\n", r.stdout)
	r = hivectl(t, addr, "down", "-o", "json")
	require.Regexp(t, `^\{"jobs":\[\{"job_id":"job-cpu-8080-a".*\},\{"job_id":"job-cpu-8081-b".*\},\{"job_id":"job-cpu-8082-bad".*\}\]\}\n$`, r.stdout)
}

func TestDownOfNothing(t *testing.T) {
	_, addr := stopAPI(t)
	r := hivectl(t, addr, "down")
	require.Zero(t, r.code)
	require.Equal(t, "no worker is running\n", r.stderr)
}
