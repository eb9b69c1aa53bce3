//go:build linux

package attack_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

// loading is a worker that does not listen yet: it waits for a file.
func loading(s *site, user string) string {
	return `workers: [{name: slow, command: [` + binary("server") + `, -port, "{{.Port}}", -await, ` + s.dir + `/go], ready: {path: /}, ports: 2` + user + `}]`
}

// stamps is what a process of a worker carries in its environment, as far as the API
// shows it.
func (s *site) stamps(w wire.Worker) []string {
	s.Helper()
	var info wire.Hive
	s.ok(get("/v1/hive"), &info)
	require.NotNil(s, w.LeaseID)
	return []string{"RBEEHIVE_STATE=" + info.StateID, "RBEEHIVE_LEASE=" + *w.LeaseID, "RBEEHIVE_WORKER=" + w.WorkerID}
}

// A process that passes for a worker's would get what is meant for the worker: hive
// would call it ready, give its address to everybody, and send it requests.
func TestAPortOfAWorkerThatLoads(t *testing.T) {
	if testing.Short() {
		t.Skip("long: watches six impostors")
	}
	for how, args := range map[string][]string{
		"with its stamps": nil, "as a child, without stamps, of who has them": {"-child"},
		"with its stamps, on all addresses": {"-host", "0.0.0.0"},
	} {
		for whose, user := range map[string]string{"root's": "", "another user's": `, user: "54322:54322"`} {
			t.Run("to be taken for "+whose+" worker "+how, func(t *testing.T) {
				s := newSite(t, "")
				s.write("hive.yaml", loading(s, user))
				s.start()
				job := s.spawn(map[string]any{"worker": "slow", "name": "slow", "wait": "started"})
				require.Equal(t, "succeeded", job.State, "%+v", job.Error)
				w := s.worker("slow")
				impostor := s.stranger().command("server", append([]string{"-port", itoa(int(w.Port))}, args...)...)
				impostor.Env = append(impostor.Env, s.stamps(*w)...)
				a := s.stranger().start(impostor)
				a.awaitLine("ready")
				taken := s.within(timeout/13, func() bool {
					now := s.worker("slow")
					return now.State == "ready" || strings.Contains(strings.Join(a.lines(), "\n"), "asked by")
				})
				require.False(t, taken, "hive says %+v; they were asked: %q", s.worker("slow"), a.lines())
			})
		}
	}
	t.Run("as a check of the test: a worker becomes ready when it listens", func(t *testing.T) {
		s := newSite(t, "")
		s.write("hive.yaml", loading(s, ""))
		s.write("go", "")
		s.start()
		s.up("slow", "slow")
	})
}

// A damaged state file is rebuilt from the processes that live: hive knows its workers
// by more than what they say of themselves.
func TestSalvageOfAWorkerThatNeverWas(t *testing.T) {
	s := newSite(t, "workers: []\n").start()
	w := s.up("cpu", "victim")
	stamps := s.stamps(w)
	stamps[2] = "RBEEHIVE_WORKER=cpu-8099-aaaaaa"
	stamps[1] = "RBEEHIVE_LEASE=01a20979-2828-751f-977d-9228b32b5011"
	fake := s.stranger().command("server", "-port", "8099")
	fake.SysProcAttr.Setsid = true // as a worker's main process
	fake.Env = append(fake.Env, stamps...)
	s.stranger().start(fake).awaitLine("ready")
	require.NoError(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait() // killed
	require.NoError(t, os.Truncate(s.data+"/hive.db", 4096))
	out, code := s.root().run(s.hivectl("db", "salvage", "--data-dir", s.data, "--yes", "-o", "json"))
	if code != 0 {
		t.Logf("%d %s", code, out)
	}
	s.start()
	var page wire.Workers
	s.ok(get("/v1/workers"), &page)
	raw, err := json.Marshal(page)
	require.NoError(t, err)
	require.Contains(t, string(raw), w.WorkerID, "the worker that lives")
	require.NotContains(t, string(raw), "cpu-8099-aaaaaa")
	require.Equal(t, 404, get("/v1/leases/8099").send().Status)
}
