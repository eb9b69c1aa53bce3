package httpapi_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

func TestAuditAndMetrics(t *testing.T) {
	r := newRig(t, rigOptions{})
	require.Equal(t, `{"at":null,"took_ms":0,"runs":0,"findings":[]}`+"\n", r.get("/v1/audit", http.StatusOK))
	require.Contains(t, r.get("/metrics", http.StatusOK), "hive_audit_timestamp_seconds 0\n")
	r.spawn("cpu")
	_, body := r.send(http.MethodPost, "/v1/leases", `{"ttl": "1h"}`)
	lease := decode[wire.Lease](t, body)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lease.Port))
	require.NoError(t, err)
	defer l.Close()
	_, body = r.send(http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", lease.Port, lease.LeaseID), "")
	require.Contains(t, body, `"status":"quarantined"`)

	resp, body := r.send(http.MethodPost, "/v1/audit", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	audit := decode[wire.Audit](t, body)
	require.Equal(t, 1, audit.Runs)
	require.NotNil(t, audit.At)
	require.Len(t, audit.Findings, 1)
	f := audit.Findings[0]
	require.Equal(t, []any{"quarantined", lease.Port, lease.LeaseID, 1}, []any{f.Code, *f.Port, *f.LeaseID, f.Sightings})
	require.Nil(t, f.WorkerID)
	require.Equal(t, body, r.get("/v1/audit", http.StatusOK), "the last one is kept")

	metrics := r.get("/metrics", http.StatusOK)
	for _, line := range []string{
		`hive_audit_findings{code="quarantined"} 1`, `hive_audit_findings{code="foreign_listener"} 0`, `hive_audits_total 1`,
		`hive_leases{kind="ttl",state="quarantined"} 1`, `hive_leases{kind="worker",state="held"} 1`, `hive_workers{state="ready",type="cpu"} 1`,
	} {
		require.Contains(t, metrics, line+"\n")
	}
	require.NoError(t, l.Close())
	resp, body = r.send(http.MethodPost, "/v1/audit?repair=1", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Empty(t, decode[wire.Audit](t, body).Findings)
	r.get(fmt.Sprintf("/v1/leases/%d", lease.Port), http.StatusNotFound)
	resp, body = r.send(http.MethodPost, "/v1/audit?repair=maybe", "")
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
	require.Contains(t, body, "repair: true or false is expected")
}
