package main_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// manager is the service manager that a hive reports to.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// managed makes the site's hives report to a manager.
func (s *site) managed(t *testing.T, env ...string) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s.env = append(append(s.env, "NOTIFY_SOCKET="+path), env...)
	return &manager{t: t, conn: conn}
}

// hear returns the next message; nil if none comes for so long.
func (m *manager) hear(timeout time.Duration) []string {
	m.t.Helper()
	require.NoError(m.t, m.conn.SetReadDeadline(time.Now().Add(timeout)))
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if err != nil {
		require.ErrorIs(m.t, err, os.ErrDeadlineExceeded)
		return nil
	}
	return strings.Split(string(buf[:n]), "\n")
}

// until collects messages up to the first that has the assignment.
func (m *manager) until(assignment string) (all [][]string) {
	m.t.Helper()
	for {
		said := m.hear(testTimeout)
		require.NotNil(m.t, said, "no %s after %v", assignment, all)
		all = append(all, said)
		if slices.Contains(said, assignment) {
			return all
		}
	}
}

// last is the message that until waited for, without what it came after.
func last(all [][]string) string { return strings.Join(all[len(all)-1], "\n") }

func TestManagerIsToldOfStartReloadAndStop(t *testing.T) {
	s := newSite(t, "")
	m := s.managed(t)
	p := s.start(t)
	start := m.until("READY=1")
	require.Equal(t, "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=opening the state", strings.Join(start[0], "\n"))
	require.Equal(t, "READY=1\nSTATUS=serving at "+p.url+": 0 workers", last(start))
	code, _, err := get(p.url + "/v1/hive")
	require.NoError(t, err)
	require.Equal(t, 200, code, "it said so when it served")
	w := p.spawn(spawnCPU)

	before := monotonic(t)
	p.signal(syscall.SIGHUP)
	said := last(m.until("RELOADING=1"))
	at := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=(\d+)\nSTATUS=reloading$`).FindStringSubmatch(said)
	require.NotNil(t, at, said)
	usec, err := strconv.ParseInt(at[1], 10, 64)
	require.NoError(t, err)
	const tick = 10_000
	require.LessOrEqual(t, before, usec)
	require.Less(t, usec, monotonic(t)+tick)
	require.Equal(t, "READY=1\nSTATUS=serving at "+p.url+": 1 worker", last(m.until("READY=1")))

	p.post("/v1/reload?dry_run=1") // nothing is reloaded, and nothing said: the next word is of the mistake
	s.write(t, "workers: [{name: cpu, nmae: x}]\n")
	p.signal(syscall.SIGHUP)
	m.until("RELOADING=1")
	failed := m.until("READY=1")
	require.Len(t, failed, 1)
	require.Contains(t, last(failed), ": 1 worker; the last reload failed: ")
	require.Contains(t, last(failed), `unknown key "nmae"`)
	s.write(t, "")
	p.post("/v1/reload")
	m.until("RELOADING=1")
	require.Equal(t, "READY=1\nSTATUS=serving at "+p.url+": 1 worker", last(m.until("READY=1")))

	p.signal(syscall.SIGTERM)
	code, _ = p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, "STOPPING=1\nSTATUS=stopping", last(m.until("STOPPING=1")))
	require.Nil(t, m.hear(time.Millisecond), "nothing after it")
	require.True(t, w.answers())
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/uptime") // cut off to hundredths of a second
	require.NoError(t, err)
	seconds, _, _ := strings.Cut(string(raw), " ")
	up, err := strconv.ParseFloat(seconds, 64)
	require.NoError(t, err)
	return int64(up * 1e6)
}

// A worker that got NOTIFY_SOCKET could report hive as stopped, one that got
// WATCHDOG_USEC would wait for a manager of its own.
func TestManagerIsNotHandedToWorkers(t *testing.T) {
	s := newSite(t, "")
	m := s.managed(t, "WATCHDOG_USEC=60000000", "WATCHDOG_PID=1")
	p := s.start(t)
	m.until("READY=1")
	w := p.spawn(spawnCPU)
	env, err := os.ReadFile("/proc/" + strconv.Itoa(w.PID) + "/environ")
	require.NoError(t, err)
	require.Contains(t, string(env), "RBEEHIVE_WORKER="+w.WorkerID)
	require.NotContains(t, string(env), "NOTIFY_SOCKET")
	require.NotContains(t, string(env), "WATCHDOG_")
	p.signal(syscall.SIGTERM)
	p.end()
}

func TestManagerGivesTimeForStoppingWorkers(t *testing.T) {
	s := newSite(t, "shutdown: stop\n")
	m := s.managed(t)
	p := s.start(t)
	p.spawn(spawnCPU)
	p.signal(syscall.SIGTERM)
	m.until("STOPPING=1")
	require.Equal(t, []string{"STATUS=stopping 1 worker", "EXTEND_TIMEOUT_USEC=30000000"}, m.hear(testTimeout))
	code, _ := p.end()
	require.Equal(t, 0, code, p.stderr.String())
}

func TestManagerThatIsNotThereIsNoReasonToStop(t *testing.T) {
	s := newSite(t, "")
	s.env = append(s.env, "NOTIFY_SOCKET="+filepath.Join(s.dir, "nobody"))
	p := s.start(t)
	p.spawn(spawnCPU)
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code)
	require.Equal(t, 1, strings.Count(p.stderr.String(), "notifying the service manager (NOTIFY_SOCKET) failed"), "said once: %s", p.stderr)
}

// A manager that is frozen reads nothing, and its socket is full after a few messages. Hive
// starts, serves and ends all the same, and says later what was not heard.
func TestManagerThatIsFrozen(t *testing.T) {
	s := newSite(t, "")
	m := s.managed(t)
	m.fill()
	p := s.start(t)
	code, _, err := get(p.url + "/v1/hive")
	require.NoError(t, err)
	require.Equal(t, 200, code)
	m.drain()
	p.post("/v1/reload") // the next thing that there is to say
	said := last(m.until("READY=1"))
	require.Contains(t, said, "serving at "+p.url)
	m.fill()
	p.signal(syscall.SIGTERM)
	code, _ = p.end()
	require.Equal(t, 0, code, p.stderr.String())
	require.Equal(t, 1, strings.Count(p.stderr.String(), "notifying the service manager (NOTIFY_SOCKET) failed"), "said once: %s", p.stderr)
}

// fill lets the manager's socket take no more.
func (m *manager) fill() {
	m.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, m.conn.LocalAddr().(*net.UnixAddr))
	require.NoError(m.t, err)
	defer conn.Close()
	for err == nil {
		require.NoError(m.t, conn.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
		_, err = conn.Write([]byte("FULL=1"))
	}
	require.ErrorIs(m.t, err, os.ErrDeadlineExceeded)
}

// drain takes what fill has sent.
func (m *manager) drain() {
	for said := m.hear(testTimeout); said != nil; said = m.hear(100 * time.Millisecond) {
		if !slices.Contains(said, "FULL=1") {
			m.t.Logf("%v", said)
		}
	}
}

// The watchdog is fed at half of its time as long as hive lives, not while it is
// stuck, and again when it is not stuck any more.
func TestWatchdog(t *testing.T) {
	s := newSite(t, "")
	stuck := filepath.Join(s.dir, "stuck")
	const limit = 400 * time.Millisecond
	m := s.managed(t, "HIVE_TEST_STUCK="+stuck, "WATCHDOG_USEC="+strconv.FormatInt(limit.Microseconds(), 10))
	p := s.start(t)
	for range 5 {
		m.until("WATCHDOG=1")
	}
	require.NoError(t, os.WriteFile(stuck, nil, 0o600))
	for m.hear(3*limit) != nil { // what was on its way
	}
	code, _, err := get(p.url + "/health")
	require.NoError(t, err)
	require.Equal(t, 200, code, "its other goroutines run on, as in a hive that is really stuck")
	require.NoError(t, os.Remove(stuck))
	m.until("WATCHDOG=1")

	require.NoError(t, os.WriteFile(stuck, nil, 0o600))
	for m.hear(3*limit) != nil {
	}
	p.signal(syscall.SIGTERM)
	code, _ = p.end()
	require.Equal(t, 0, code, "the main loop still hears: %s", p.stderr.String())
	m.until("STOPPING=1")
}

// WATCHDOG_PID of another process: the watchdog is not hive's.
func TestWatchdogOfSomebodyElse(t *testing.T) {
	s := newSite(t, "")
	m := s.managed(t, "WATCHDOG_USEC=20000", "WATCHDOG_PID=1")
	p := s.start(t)
	m.until("READY=1")
	require.Nil(t, m.hear(200*time.Millisecond))
	p.signal(syscall.SIGTERM)
	p.end()
}
