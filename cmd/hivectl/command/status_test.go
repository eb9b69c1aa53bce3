package command_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

const noFindings = `{"at":"2026-01-02T12:00:00.000Z","took_ms":7,"runs":3,"findings":[]}`

// surveyed is a hive on which status finds what the arguments say.
func surveyed(t *testing.T, audit, doctor string, leases []string, list ...string) string {
	_, addr := serve(t, map[string]http.HandlerFunc{
		"GET /v1/hive": answer(hiveJSON), "GET /v1/ports": answer(portsJSON), "GET /v1/types": answer(`{"types":[],"next":""}`), "GET /v1/workers": workers(list...),
		"GET /v1/leases": answer(`{"leases":[` + strings.Join(leases, ",") + `],"next":""}`),
		"GET /v1/audit":  answer(audit), "GET /v1/doctor": answer(`{"checks":[` + doctor + `],"warnings":0}`),
	})
	return addr
}

// because gives a worker a reason.
func because(worker, reason string) string {
	return strings.Replace(worker, `"reason":null`, `"reason":"`+reason+`"`, 1)
}

// often gives a worker restarts.
func often(worker string, n int) string {
	return strings.Replace(worker, `"restarts":0`, fmt.Sprintf(`"restarts":%d`, n), 1)
}

// served gives a worker a time at which it was ready.
func served(worker string) string {
	return strings.Replace(worker, `"ready_at":null`, `"ready_at":"2026-01-02T11:59:30.000Z"`, 1)
}

func TestStatusAllIsWell(t *testing.T) {
	addr := surveyed(t, noFindings, okJSON+","+unknownJSON, []string{lease},
		worker("w-1", "", "ready", 1), worker("w-2", "", "stopped", 2), worker("w-3", "", "ready", 3), worker("w-4", "", "loading", 4))
	r := hivectl(t, addr, "status")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "hive      box at "+addr+"\nversion   v1\nstarted   ")
	require.Contains(t, r.stdout, " (3d0h ago)\nrecovery  2 adopted, 1 freed, 0 restarted, 3 unverified in 12 ms; 4 processes without a record\nworkers   1 loading, 2 ready, 1 stopped\nports     8080-8089: 10 ports, 4 free")
	require.True(t, strings.HasSuffix(r.stdout, "\nissues    none\n"), r.stdout)
	require.Equal(t, result{0, "box\n", ""}, hivectl(t, addr, "status", "-q"))
	r = hivectl(t, addr, "status", "-o", "json")
	require.Equal(t, result{0, strings.TrimSuffix(hiveJSON, "}") + `,"workers":{"loading":1,"ready":2,"stopped":1},"ports":` + portsJSON + `,"issues":[]}` + "\n", ""}, r)
}

func TestStatusSaysWhatToDo(t *testing.T) {
	quarantined := strings.NewReplacer(`"held"`, `"quarantined"`, `"acquired_at"`, `"reason":"nginx still has it","acquired_at"`).Replace(lease)
	ofWorker := strings.NewReplacer(`"held"`, `"unverified"`, `"worker_id":null`, `"worker_id":"w-6"`).Replace(lease)
	addr := surveyed(t, findings, okJSON+","+warningJSON+","+strings.Replace(warningJSON, "squatters", "quarantined", 1), []string{quarantined, ofWorker},
		worker("w-1", "web", "ready", 1), because(worker("w-2", "web", "unhealthy", 2), "no answer"), often(worker("w-3", "", "backoff", 3), 4),
		often(because(served(worker("w-4", "", "failed", 4)), "exited with code 7"), 1), worker("w-6", "", "unverified", 6),
		// These two have been replaced: the name, and the port, belong to a later one.
		strings.Replace(worker("w-5", "web", "failed", 5), "11:59", "11:58", 1), strings.Replace(worker("w-7", "", "failed", 6), "11:59", "11:58", 1))
	r := hivectl(t, addr, "status")
	require.Equal(t, 1, r.code)
	require.Empty(t, r.stderr)
	_, issues, _ := strings.Cut(r.stdout, "\n\n")
	require.Equal(t, `7 issues
worker    w-2 (web): unhealthy: no answer
  do      hivectl logs --tail 20 w-2; hivectl restart w-2
worker    w-3: backoff (4 restarts)
  do      hivectl logs --tail 20 w-3; hive retries by itself; hivectl restart w-3 retries now
worker    w-4: failed: exited with code 7 (1 restart)
  do      hivectl logs --tail 20 w-4; hivectl restart w-4
worker    w-6: unverified
  do      hivectl doctor shows why hive cannot verify it; hivectl describe w-6
lease     port 8080: quarantined: nginx still has it
  do      hivectl audit --repair, which frees the port once nothing uses it
audit     news: something of a later version
  do      hivectl audit
doctor    squatters: 8080 python3 (pid 4711, user bob)
  do      end them; or if they are to stay, add `+"`8080` to `ports.reserved`"+` in hive.yaml
`, issues)

	r = hivectl(t, addr, "status", "-o", "json")
	require.Equal(t, 1, r.code)
	var status struct {
		HiveID  string                                        `json:"hive_id"`
		Workers map[string]int                                `json:"workers"`
		Issues  []struct{ Kind, Subject, Message, Do string } `json:"issues"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &status))
	require.Equal(t, "box", status.HiveID)
	require.Equal(t, 3, status.Workers["failed"])
	require.Len(t, status.Issues, 7)
	require.Equal(t, "w-2 (web)", status.Issues[0].Subject)
}

// A hundred failures are still one screen, and a narrow one is not overrun.
func TestStatusIsOneScreen(t *testing.T) {
	var list []string
	for i := range 100 {
		list = append(list, because(served(worker(fmt.Sprintf("cpu-%d-abcdef", 8000+i), "", "failed", 8000+i)), "exited with code 7 "+strings.Repeat("and so on ", 9)))
	}
	addr := surveyed(t, noFindings, okJSON, nil, list...)
	r := hivectlWith(t, func(e *cli.Env) { e.Width = 70 }, "--addr", addr, "status")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stdout, "\n100 issues\n")
	require.Contains(t, r.stdout, "94 more\n  do      hivectl workers list\n")
	require.Contains(t, r.stdout, "\x1b[31mworker")
	require.Less(t, strings.Count(r.stdout, "\n"), 45)
	for line := range strings.Lines(strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(r.stdout)) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 70, line)
	}
}

// With -q it is only asked whether it serves: a probe does not restart a container
// because a worker in it has failed.
func TestStatusQuiet(t *testing.T) {
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/hive": answer(hiveJSON)})
	require.Equal(t, result{0, "box\n", ""}, hivectl(t, addr, "status", "-q"))
}

func TestStatusWithoutADaemon(t *testing.T) {
	require.Equal(t, 4, hivectl(t, "unix:/nonexistent", "status", "-q").code)
	require.Equal(t, 4, hivectl(t, "unix:/nonexistent", "status").code)
}
