package httpapi_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

func TestLeaseForAProgram(t *testing.T) {
	r := newRig(t, rigOptions{})
	resp, body := r.send(http.MethodPost, "/v1/leases", `{"ttl": "30s", "owner": "bob"}`)
	require.Equal(t, http.StatusCreated, resp.StatusCode, body)
	lease := decode[wire.Lease](t, body)
	path := fmt.Sprintf("/v1/leases/%d", lease.Port)
	require.Equal(t, path, resp.Header.Get("Location"))
	require.Equal(t, r.ports.First, lease.Port)
	require.Equal(t, []uint16{lease.Port}, lease.Ports)
	require.Equal(t, []string{"ttl", "bob", "held"}, []string{lease.Kind, *lease.Owner, lease.State})
	require.EqualValues(t, 30_000, *lease.TTLMS)
	require.Nil(t, lease.PID)
	require.Nil(t, lease.WorkerID)
	require.WithinDuration(t, time.Now().Add(30*time.Second), time.Time(*lease.ExpiresAt), 20*time.Second)
	require.Contains(t, r.get(path, http.StatusOK), lease.LeaseID)

	resp, body = r.send(http.MethodPut, path, `{"lease_id": "`+lease.LeaseID+`", "ttl": "1h"}`)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	require.EqualValues(t, 3_600_000, *decode[wire.Lease](t, body).TTLMS)
	resp, body = r.send(http.MethodPut, path, `{"lease_id": "stale"}`)
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	require.Contains(t, body, "leased under another lease_id")
	resp, body = r.send(http.MethodPost, "/v1/leases", fmt.Sprintf(`{"ttl": "30s", "port": %d}`, lease.Port))
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	require.Contains(t, body, `"code":"port_unavailable"`)
	require.Contains(t, body, "it is leased to bob")
	resp, body = r.send(http.MethodPost, "/v1/leases", `{"ttl": "30s", "ports": 3}`)
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	require.Contains(t, body, `"code":"ports_exhausted"`)

	for _, bad := range []string{"", "?lease_id="} {
		resp, body = r.send(http.MethodDelete, path+bad, "")
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Contains(t, body, "lease_id: is required")
	}
	resp, _ = r.send(http.MethodDelete, path+"?lease_id=other", "")
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	resp, body = r.send(http.MethodDelete, path+"?lease_id="+lease.LeaseID, "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, wire.Released{Port: lease.Port, LeaseID: lease.LeaseID, Status: "released"}, decode[wire.Released](t, body))
	resp, _ = r.send(http.MethodDelete, path+"?lease_id="+lease.LeaseID, "")
	require.Equal(t, http.StatusNotFound, resp.StatusCode)

	for _, c := range [][2]string{{http.MethodPost, "/v1/leases"}, {http.MethodPut, path}} {
		resp, body = r.send(c[0], c[1], `{"pid": -1, "lease_id": "x"}`)
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.True(t, strings.Contains(body, `"code":"bad_request"`) || strings.Contains(body, `"code":"unknown_field"`), body)
	}
	resp, _ = r.send(http.MethodPut, "/v1/leases/0", "{}")
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	resp, _ = r.send(http.MethodPatch, path, "{}")
	require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	require.Equal(t, "DELETE, GET, HEAD, OPTIONS, PUT", resp.Header.Get("Allow"))
}

// Who has a PID, from ps or from a log, finds the port.
func TestLeasesOfAProcess(t *testing.T) {
	r := newRig(t, rigOptions{})
	resp, body := r.send(http.MethodPost, "/v1/leases", fmt.Sprintf(`{"pid": %d}`, os.Getppid()))
	require.Equal(t, http.StatusCreated, resp.StatusCode, body)
	mine := decode[wire.Lease](t, body)
	resp, body = r.send(http.MethodPost, "/v1/leases", `{"ttl": "30s"}`)
	require.Equal(t, http.StatusCreated, resp.StatusCode, body)

	found := decode[wire.Leases](t, r.get(fmt.Sprintf("/v1/leases?pid=%d", os.Getppid()), http.StatusOK))
	require.Len(t, found.Leases, 1)
	require.Equal(t, mine.LeaseID, found.Leases[0].LeaseID)
	require.Empty(t, decode[wire.Leases](t, r.get("/v1/leases?pid=1", http.StatusOK)).Leases, "which holds none")
	for _, bad := range []string{"0", "-1", "x", "4194305", "99999999999999999999"} {
		require.Contains(t, r.get("/v1/leases?pid="+bad, http.StatusBadRequest), "pid")
	}
}
