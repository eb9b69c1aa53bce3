//go:build linux

package attack_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

// letThemIn is the part of the configuration by which these users may lease ports
// and start workers of the type cpu without being root's equals.
func letThemIn(uids ...int) string {
	list := strings.ReplaceAll(strings.Trim(fmt.Sprint(uids), "[]"), " ", ", ")
	return "workers: [{name: cpu, allow: {users: [" + list + "]}}]\n"
}

// A user who shares a hive with others cannot use up everything.
func TestWhoMayLease(t *testing.T) {
	s := newSite(t, letThemIn(stranger, other)+"ports: {range: 8080-9999}\n").start()
	t.Run("somebody else's lease", func(t *testing.T) {
		s := s.in(t)
		r := s.neighbour().do(leaseFor("neighbour"))
		require.Equal(t, http.StatusCreated, r.Status, "%s", r)
		var lease wire.Lease
		require.NoError(t, json.Unmarshal([]byte(r.Body), &lease))
		path := fmt.Sprintf("/v1/leases/%d", lease.Port)
		s.stranger().ask(
			ask{Method: http.MethodDelete, Path: path + "?lease_id=" + lease.LeaseID},
			ask{Method: http.MethodPut, Path: path, Body: `{"lease_id": "` + lease.LeaseID + `", "ttl": "1s"}`},
		)
		var now wire.Lease
		s.ok(get(path), &now)
		require.Equal(t, lease.LeaseID, now.LeaseID)
		require.Equal(t, *lease.TTLMS, *now.TTLMS, "it is kept for as long as before")
		r = s.neighbour().do(ask{Method: http.MethodDelete, Path: path + "?lease_id=" + lease.LeaseID})
		require.Equal(t, http.StatusOK, r.Status, "%s", r)
	})
	t.Run("a port that only root can bind", func(t *testing.T) {
		s := s.in(t)
		s.stranger().do(post("/v1/leases", map[string]any{"ttl": "1h", "port": 443, "owner": "low"}))
		require.Empty(t, s.leasesOf("low"))
		s.stranger().job("worker_spawn", map[string]any{"worker": "cpu", "name": "low", "port": 444})
		s.root().job("worker_spawn", map[string]any{"worker": "cpu", "name": "low", "port": 444}) // its entry does not say so
		require.Nil(t, s.worker("low"))
	})
	t.Run("a lease on a process of somebody else's", func(t *testing.T) {
		s := s.in(t)
		a := s.neighbour().start(s.neighbour().command("server", "-port", "20600"))
		a.awaitLine("ready")
		s.stranger().do(post("/v1/leases", map[string]any{"pid": a.cmd.Process.Pid, "owner": "not theirs"}))
		require.Empty(t, s.leasesOf("not theirs"))
		r := s.neighbour().do(post("/v1/leases", map[string]any{"pid": a.cmd.Process.Pid, "owner": "its own"}))
		require.Equal(t, http.StatusCreated, r.Status, "%s", r)
	})
	t.Run("all ports", func(t *testing.T) {
		s := s.in(t)
		var asks []ask
		for n := 256; n > 0; n /= 2 {
			for range 8 {
				asks = append(asks, post("/v1/leases", map[string]any{"ttl": "1h", "ports": n, "owner": "greed"}))
			}
		}
		s.stranger().ask(asks...)
		job := s.spawn(map[string]any{"worker": "cpu", "name": "roots"})
		require.Equal(t, "succeeded", job.State, "%d ports are theirs: %+v", len(s.leasesOf("greed")), job.Error)
		require.Equal(t, http.StatusCreated, s.neighbour().do(leaseFor("second")).Status)
	})
}
