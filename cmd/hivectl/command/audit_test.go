package command_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const findings = `{"at":"2026-01-02T12:00:00.000Z","took_ms":7,"runs":3,"findings":[` +
	`{"code":"quarantined","port":8080,"worker_id":null,"lease_id":"l-1","pid":null,"program":null,"message":"port 8080 is quarantined: nginx still has it","since":"2026-01-02T11:59:00.000Z","sightings":3},` +
	`{"code":"quarantined","port":8081,"worker_id":null,"lease_id":"l-2","pid":null,"program":null,"message":"port 8081 is quarantined: nginx still has it","since":"2026-01-02T11:59:30.000Z","sightings":2},` +
	`{"code":"news","port":null,"worker_id":null,"lease_id":null,"pid":7,"program":"x","message":"something of a later version","since":"2026-01-02T12:00:00.000Z","sightings":1}]}`

func TestAudit(t *testing.T) {
	var repair string
	_, addr := serve(t, map[string]http.HandlerFunc{"POST /v1/audit": func(w http.ResponseWriter, r *http.Request) {
		if repair = r.URL.Query().Get("repair"); repair != "" {
			answer(`{"at":"2026-01-02T12:00:00.000Z","took_ms":7,"runs":5,"findings":[]}`)(w, r)
			return
		}
		answer(findings)(w, r)
	}})
	require.Equal(t, result{1, `CODE         PORT  FOR   SEEN  WHAT
quarantined  8080  1m0s  3     port 8080 is quarantined: nginx still has it
quarantined  8081  30s   2     port 8081 is quarantined: nginx still has it
news         -     0s    1     something of a later version
quarantined: end the process that is named, or wait: the port is freed once two audits find nobody on it
`, ""}, hivectl(t, addr, "audit"))
	require.Equal(t, result{1, findings + "\n", ""}, hivectl(t, addr, "audit", "-o", "json"))
	require.Equal(t, result{1, "quarantined\nnews\n", ""}, hivectl(t, addr, "audit", "-q"))
	require.Equal(t, result{0, "records, processes and listeners agree (7 ms)\n", ""}, hivectl(t, addr, "audit", "--repair"))
	require.Equal(t, "true", repair)
}
