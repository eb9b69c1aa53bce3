package boot_test

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"
)

// wantedEntries are workers that cannot run at once, each for another reason: its program
// comes later, the one that it waits for is not there, somebody has its port.
const wantedEntries = `
  - name: late
    command: [/srv/late, worker, "{{.Host}}:{{.Port}}"]
    ready: {path: /}
    autostart: true
    restart: {policy: always, backoff: 300ms}
    reload: restart
  - name: behind
    command: [/opt/hive-boot/probe, worker, "{{.Host}}:{{.Port}}"]
    ready: {path: /}
    autostart: true
    start_after: [late]
  - name: fixed
    command: [/opt/hive-boot/probe, worker, "{{.Host}}:{{.Port}}"]
    ready: {path: /}
    autostart: true
    port: 8999
    restart: {policy: always, backoff: 300ms}
  - name: slow
    command: [sh, -c, "while [ ! -e /srv/go ]; do sleep 0.1; done; exec /opt/hive-boot/probe worker {{.Host}}:{{.Port}}"]
    ready: {path: /}
  - name: broken
    command: [sh, -c, "exit 7 # {{.Port}}"]
`

// status is what hivectl says, and whether something is wrong: its exit code is 1 then.
func (m *machine) status() (said string, wrong bool) {
	m.Helper()
	said, err := m.run("hivectl", "status")
	return said, err != nil
}

// becomes waits until the status says all of these, and whether something is wrong.
func (m *machine) becomes(what string, wrong bool, says ...string) {
	m.Helper()
	last := ""
	defer func() { m.Logf("%s: hivectl status (exit 1: %t)\n%s", what, wrong, last) }()
	m.eventually(what, func() bool {
		said, is := m.status()
		ok := is == wrong
		for _, s := range says {
			ok = ok && strings.Contains(said, s)
		}
		ps, _ := m.run("hivectl", "ps")
		last = said + ps
		return ok
	})
}

// The status is right of whatever is wanted and does not run, and of what nobody wants.
func wanted(m *machine) {
	const file = "/etc/hive/hive.yaml"
	good := m.read(file)
	holder := m.stranger("hold", "127.0.0.1:8999")
	m.eventually("somebody has the port", func() bool {
		said, err := m.run("sh", "-c", "grep -qi ':2327 .* 01 ' /proc/net/tcp")
		return err == nil && said == ""
	})
	m.write(file, good+wantedEntries)
	m.do("systemctl", "restart", "hive")
	m.becomes("wanted, and not running", true, "late: backoff: /srv/late does not exist", "fixed: backoff: port 8999 is not available", "2 backoff, 1 queued")
	said := m.do("hivectl", "ps")
	for _, name := range []string{"late", "behind", "fixed"} {
		require.Contains(m, said, name)
	}
	_, err := m.run("hivectl", "workers", "wait", "late", "--timeout", "300ms")
	require.Error(m, err)

	require.Equal(m, 1, holder.count())
	m.do("cp", here+"/probe", "/srv/late")
	m.do("hivectl", "workers", "wait", "late", "behind", "fixed", "--timeout", "30s")
	m.becomes("all that is wanted runs", false)

	// A mistake that somebody has made is history.
	said, err = m.run("hivectl", "up", "broken", "--name", "typo")
	require.Error(m, err, said)
	m.becomes("a start that failed and that nobody wants", false)
	m.do("hivectl", "workers", "rm", "typo")
	require.NotContains(m, m.do("hivectl", "workers", "list"), "typo")

	// A typo in a reload does not cost the worker that serves.
	pid := m.pidOf("late")
	m.write(file, good+strings.Replace(wantedEntries, "/srv/late", "/srv/lat", 1))
	m.do("hivectl", "reload")
	said, err = m.run("hivectl", "restart", "late")
	require.Error(m, err)
	require.Contains(m, said, "/srv/lat")
	require.Equal(m, pid, m.pidOf("late"))
	m.write(file, good+wantedEntries)
	m.do("systemctl", "reload", "hive")
	m.becomes("the typo is mended", false)

	m.write(file, good+wantedEntries+"\nlissten: x\n")
	_, err = m.run("systemctl", "reload", "hive")
	require.Error(m, err)
	_, err = m.run("hivectl", "reload")
	require.Error(m, err)
	m.becomes("a reload has failed", true, "lissten")
	m.write(file, good+wantedEntries)
	m.do("hivectl", "reload")
	m.becomes("a reload has succeeded", false)

	// A job that waits goes on after hive was killed.
	var job struct {
		JobID string `json:"job_id"`
		State string
	}
	require.NoError(m, json.Unmarshal([]byte(m.do("hivectl", "jobs", "submit", `{"operation":"worker_spawn","worker":"slow","name":"slow"}`, "-o", "json")), &job))
	m.eventually("slow is starting", func() bool { return m.pidOf("slow") != 0 })
	pid, was := m.pidOf("slow"), m.mainPID()
	m.do("kill", "-KILL", strconv.Itoa(was))
	m.eventually("systemd has started hive again", func() bool {
		now := m.mainPID()
		return now != 0 && now != was && m.states()[0] == "active"
	})
	require.NoError(m, json.Unmarshal([]byte(m.do("hivectl", "jobs", "get", job.JobID, "-o", "json")), &job))
	require.Equal(m, "running", job.State)
	m.do("touch", "/srv/go")
	m.do("hivectl", "jobs", "watch", job.JobID)
	m.do("hivectl", "workers", "wait", "slow", "--timeout", "30s")
	require.Equal(m, pid, m.pidOf("slow"))
	m.becomes("it goes on", false)

	m.write(file, good)
	m.do("hivectl", "reload")
	m.do("hivectl", "stop", "late", "behind", "fixed", "slow")
	m.becomes("as before", false)
}

// pidOf is the PID of a worker's main process; 0: it has none.
func (m *machine) pidOf(name string) int {
	m.Helper()
	said, err := m.run("hivectl", "workers", "get", name, "-o", "json")
	var w struct{ PID int }
	if err != nil || json.Unmarshal([]byte(said), &w) != nil {
		return 0
	}
	return w.PID
}
