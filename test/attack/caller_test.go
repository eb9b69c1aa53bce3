//go:build linux

package attack_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

// want is something that a caller without any rights wants.
type want struct {
	name string
	ask  ask
	// got checks, as root, whether the caller has got it. nil: the response says it.
	got func(s *site) bool
}

// wants are about a hive with a worker that is called victim.
func wants(victim wire.Worker) []want {
	gone := func(s *site) bool { w := s.worker("victim"); return w == nil || w.State != "ready" }
	return []want{
		{"a worker of the type of their choice", operate("worker_spawn", map[string]any{"worker": "cpu", "name": "theirs"}), func(s *site) bool { return s.worker("theirs") != nil }},
		{"the log of somebody's worker", get("/v1/workers/victim/logs"), nil},
		{"the events of somebody's worker", get("/v1/workers/victim/events"), nil},
		{"somebody's worker", get("/v1/workers/victim"), nil},
		{"all workers", get("/v1/workers"), nil},
		{"all leases", get("/v1/leases"), nil},
		{"all jobs", get("/v1/jobs"), nil},
		{"who has which port", get("/v1/ports"), nil},
		{"the findings of the audit", get("/v1/audit"), nil},
		{"an audit that repairs", ask{Method: http.MethodPost, Path: "/v1/audit?repair=1"}, nil},
		{"programs that are run for their versions", get("/v1/types?version=1"), nil},
		{"the command line of a type", get("/v1/types/cpu?model=x"), nil},
		{"an examination of the machine", get("/v1/doctor").within(timeout), nil},
		{"everything that happens", get("/v1/events").within(time.Second), nil},
		{"what workers use", get("/v1/heartbeats/stream").within(time.Second), nil},
		{"the devices of the machine", get("/capabilities"), nil},
		{"the metrics", get("/metrics"), nil},
		{"the state file", get("/v1/backup"), nil},
		{"a list that is answered at once", operate("worker_process_list", nil), nil},
		{"a check of the hive", operate("hive_check", nil), nil},
		{"a port", post("/v1/leases", map[string]any{"ttl": "1h", "owner": "theirs"}), func(s *site) bool { return len(s.leasesOf("theirs")) > 0 }},
		{"a new configuration", ask{Method: http.MethodPost, Path: "/v1/reload"}, func(s *site) bool { return strings.Contains(s.printed(), "reloaded") }},
		{"a restart of somebody's worker", operate("worker_restart", map[string]any{"worker_id": victim.WorkerID}), func(s *site) bool {
			w := s.worker("victim")
			return w == nil || w.PID == nil || *w.PID != *victim.PID
		}},
		{"the end of somebody's worker", operate("worker_stop", map[string]any{"worker_id": victim.WorkerID}), gone},
		{"the end of a process of somebody's worker", operate("worker_process_delete", map[string]any{"pid": *victim.PID}), gone},
		{"the end of hive", ask{Method: http.MethodPost, Path: "/v1/shutdown"}, (*site).ended},
	}
}

// getsNothing tries all wants as a caller, and requires that each is refused.
func (p person) getsNothing(victim wire.Worker) {
	p.Helper()
	all := wants(victim)
	asks := make([]ask, len(all))
	for i, w := range all {
		asks[i] = w.ask
	}
	replies := p.ask(asks...)
	for i, w := range all {
		p.Run(w.name, func(t *testing.T) {
			require.True(t, replies[i].refused(), "%s", replies[i])
			if w.got != nil {
				require.False(t, w.got(p.in(t)), "it has happened")
			}
		})
	}
}

// What every user of the machine may ask for: that there is a hive, and its API version.
func (p person) getsWhatIsPublic() {
	p.Helper()
	for _, path := range []string{"/health", "/docs", "/openapi.json"} {
		require.Equal(p, http.StatusOK, p.do(get(path)).Status, path)
	}
}

// Root's hive with its default settings: root needs no token, and nobody else has any
// rights.
func TestAnotherUserOfTheMachine(t *testing.T) {
	s := newSite(t, "workers: []\n").start()
	victim := s.up("cpu", "victim")
	require.Equal(t, http.StatusOK, s.root().do(get("/v1/workers/victim/logs")).Status)
	s.stranger().getsWhatIsPublic()
	s.stranger().getsNothing(victim)
	require.False(t, s.ended())
	require.Equal(t, "succeeded", s.jobState(s.root().job("worker_stop", map[string]any{"worker_id": victim.WorkerID})))
	require.Equal(t, http.StatusOK, s.root().do(ask{Method: http.MethodPost, Path: "/v1/shutdown"}).Status)
	s.await("the end of hive", s.ended)
}

// A user's own hive obeys that user and root, and nobody else.
func TestAnotherUserOfAUsersOwnHive(t *testing.T) {
	s := newSite(t, "workers: []\n")
	s.uid, s.data = other, s.homeOf(s.neighbour(), "mine")+"/data"
	s.args[3] = s.data
	s.start()
	victim := s.up("cpu", "victim") // by root
	require.Equal(t, other, ownerOf("/proc/"+itoa(*victim.PID)))
	require.Equal(t, http.StatusOK, s.neighbour().do(get("/v1/workers/victim/logs")).Status)
	s.stranger().getsNothing(victim)
	require.Equal(t, "succeeded", s.jobState(s.neighbour().job("worker_stop", map[string]any{"worker_id": victim.WorkerID})))
	require.Equal(t, http.StatusOK, s.neighbour().do(ask{Method: http.MethodPost, Path: "/v1/shutdown"}).Status)
	s.await("the end of hive", s.ended)
}
