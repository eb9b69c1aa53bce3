package command_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	lease     = `{"port":8080,"lease_id":"l-1","kind":"ttl","worker_id":null,"owner":"me","pid":null,"state":"held","acquired_at":"2026-01-01T11:00:00.000Z","expires_at":"2026-01-02T13:00:00.000Z"}`
	portsJSON = `{"range":"8080-8089","total":10,"free":4,"leased":1,"quarantined":0,"reserved":0,"foreign":2,"draining":0,"forbidden":3,"holders":[{"port":8080,"kind":"listener","pid":17,"program":"nginx","user":"www","since":"2026-01-02T11:59:57.000Z"},{"port":8081,"kind":"listener","pid":null,"program":null,"user":null,"since":null}]}`
	hiveJSON  = `{"hive_id":"box","version":"v1","state_id":"s","started_at":"2025-12-30T12:00:00.000Z","recovery":{"took_ms":12,"adopted":2,"freed":1,"restarted":0,"unverified":3,"orphans":4}}`
)

func inventory(t *testing.T) string {
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/leases":             answer(`{"leases":[` + lease + `],"next":""}`),
		"GET /v1/leases/8080":        answer(lease),
		"GET /v1/ports":              answer(portsJSON),
		"GET /v1/hive":               answer(hiveJSON),
		"GET /v1/workers":            workers(worker("w-1", "", "ready", 1), worker("w-2", "", "failed", 2), worker("w-3", "", "ready", 3)),
		"GET /v1/workers/w-2":        answer(strings.Replace(worker("w-2", "", "failed", 2), `"exit":null`, `"exit":{"code":null,"signal":"SIGKILL","oom":true,"at":"2026-01-02T12:00:00.000Z"}`, 1)),
		"GET /v1/workers/w-2/events": answer(`{"events":[],"next":""}`),
	})
	return addr
}

func TestLeases(t *testing.T) {
	addr := inventory(t)
	r := hivectl(t, addr, "leases", "list")
	require.Equal(t, "PORT  KIND  STATE  HOLDER  PID  AGE    LEASE\n8080  ttl   held   me      -    25h0m  l-1\n", r.stdout)
	require.Equal(t, "8080\n", hivectl(t, addr, "leases", "list", "-q").stdout)
	r = hivectl(t, addr, "leases", "get", "8080")
	require.Contains(t, r.stdout, "kind      ttl\nstate     held\nworker    -\nowner     me\nby        -\npid       -\n")
	require.Equal(t, lease+"\n", hivectl(t, addr, "leases", "get", "8080", "-o", "json").stdout)
	require.Equal(t, 3, hivectl(t, addr, "leases", "get", "8081").code)
	for _, bad := range []string{"0", "65536", "x", "", "-1"} {
		require.Equal(t, 2, hivectl(t, addr, "leases", "get", bad).code, bad)
	}
}

func TestPorts(t *testing.T) {
	addr := inventory(t)
	r := hivectl(t, addr, "ports")
	require.Equal(t, `8080-8089: 10 ports, 4 free, 1 leased, 2 foreign, 0 draining, 0 quarantined, 0 reserved, 3 forbidden
PORT  KIND      PID  PROGRAM  USER  SINCE
8080  listener  17   nginx    www   3s
8081  listener  -    -        -     -
`, r.stdout)
	require.Equal(t, "8080\n8081\n", hivectl(t, addr, "ports", "-q").stdout)
	require.Equal(t, portsJSON+"\n", hivectl(t, addr, "ports", "-o", "json").stdout)
}

func TestDescribe(t *testing.T) {
	addr := inventory(t)
	r := hivectl(t, addr, "describe", "w-2")
	require.Contains(t, r.stdout, "exit      by signal SIGKILL, out of memory, ")
	require.Contains(t, r.stdout, "\nevents\n  none\n")
	r = hivectl(t, addr, "describe", "w-2", "-o", "json")
	require.Contains(t, r.stdout, `,"news":true},"lease":null,"type":null,"events":[]}`)
}

func TestVersionNeedsNoHive(t *testing.T) {
	r := hivectl(t, "unix:/nonexistent", "version")
	require.Zero(t, r.code, r.stderr)
	require.Regexp(t, `^hivectl v0\.0\.1 go1\.[0-9.]+\n$`, r.stdout)
	require.Equal(t, "v0.0.1\n", hivectl(t, "", "version", "-q").stdout)
}

// Groups of commands do nothing by themselves, and say what they have.
func TestGroups(t *testing.T) {
	for name, has := range map[string]string{"workers": "list, get, wait, logs, rm", "leases": "list, get, acquire, renew, release", "jobs": "submit, list, get, watch, cancel", "types": "list, explain", "db": "check, dump, backup, restore, compact, salvage"} {
		r := hivectl(t, "", name)
		require.Equal(t, result{2, "", "hivectl: " + name + ": missing subcommand: want one of " + has + "\nhint: hivectl " + name + " --help\n"}, r)
	}
	r := hivectl(t, "", "workers", "lits")
	require.Equal(t, result{2, "", "hivectl: unknown command \"workers lits\"\nhint: did you mean: hivectl workers list, logs\n"}, r)
	r = hivectl(t, "")
	require.Zero(t, r.code)
	require.Contains(t, r.stdout, "Available Commands:")
}
