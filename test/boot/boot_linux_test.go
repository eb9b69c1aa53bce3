package boot_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The parts follow each other on one machine.
func TestPackagedHive(t *testing.T) {
	if testing.Short() {
		t.Skip("long: builds two packages, and boots a machine with them")
	}
	m := boot(t, build(t))
	for _, part := range []struct {
		name string
		run  func(*machine)
	}{
		{"installed", installed},
		{"users", users},
		{"workers", workers},
		{"namespaces", namespaces},
		{"nobody takes the port", nobodyTakesThePort},
		{"upgrade", upgrade},
		{"mistakes", mistakes},
		{"wanted", wanted},
		{"stopped", stopped},
		{"without IPv6", withoutIPv6},
		{"on all addresses", onAllAddresses},
		{"opened", opened},
		{"removed", removed},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(&machine{t, m.init}) }) {
			return
		}
	}
}

const units = 3

func all(state string) []string {
	out := make([]string, units)
	for i := range out {
		out[i] = state
	}
	return out
}

func (m *machine) states() []string {
	return m.active("hive.service", "hive.socket", "hive-ipv6.socket")
}

func installed(m *machine) {
	m.do("dpkg", "--install", here+"/1.0.0/rbeehive_1.0.0_"+runtime.GOARCH+".deb")
	require.Equal(m, all("inactive"), m.states(), "nothing is started unasked")
	m.write("/etc/hive/hive.yaml", m.read("/etc/hive/hive.yaml")+`
workers:
  - name: probe
    command: [/opt/hive-boot/probe, worker, "{{.Host}}:{{.Port}}"]
    ready: {path: /}
  - name: root
    command: [/opt/hive-boot/probe, worker, "{{.Host}}:{{.Port}}"]
    user: root
    ready: {path: /}
`)
	m.do("systemctl", "enable", "--now", "hive")
	require.Equal(m, all("active"), m.states())
	require.Equal(m, strings.Join(all("enabled"), "\n"), m.do("systemctl", "is-enabled", "hive.service", "hive.socket", "hive-ipv6.socket"))
	require.Equal(m, "ok", m.do(here+"/probe", "get", "http://127.0.0.1:7835/health"))
	require.Equal(m, "ok", m.do(here+"/probe", "get", "http://[::1]:7835/health"))
	require.NotContains(m, m.do("journalctl", "--no-pager", "--unit=hive.service"), "level=warning")
}

func users(m *machine) {
	require.Equal(m, "/var/lib/hive-worker:/usr/sbin/nologin", strings.Join(strings.Split(m.do("getent", "passwd", "hive-worker"), ":")[5:], ":"))
	require.Contains(m, m.do("id", "-nG", "hive-worker"), "video")
	require.Equal(m, "hive-worker hive-worker 750", m.do("stat", "--format=%U %G %a", "/var/lib/hive-worker"))
	require.Equal(m, "root hive 660", m.do("stat", "--format=%U %G %a", "/run/hive/hive.sock"))
	require.Equal(m, "root root 755", m.do("stat", "--format=%U %G %a", "/run/hive"))
	_, gid, _ := strings.Cut(m.do("getent", "group", "hive"), ":x:")
	gid = strings.TrimSuffix(gid, ":")
	as := func(groups string) (string, error) {
		return m.run("setpriv", "--reuid=4242", "--regid=4242", "--no-new-privs", groups, "hivectl", "--addr=unix:/run/hive/hive.sock", "workers", "list", "-o", "json")
	}
	said, err := as("--groups=" + gid)
	require.NoError(m, err, said)
	said, err = as("--clear-groups")
	require.Error(m, err)
	require.Contains(m, said, "permission denied")
	require.Contains(m, m.do(here+"/probe", "get", "http://127.0.0.1:7835/v1/workers"), `"code":"unauthorized"`, "not even root, over TCP")
}

// worker returns the PID, as the machine counts, and the URL of the only worker of a type.
func (m *machine) worker(typ string) (pid int, url string) {
	m.Helper()
	var w struct {
		PID   int
		URL   string
		State string
	}
	require.NoError(m, json.Unmarshal([]byte(m.do("hivectl", "workers", "get", "one-"+typ, "-o", "json")), &w))
	require.Equal(m, "ready", w.State)
	return w.PID, w.URL
}

// up starts the only worker of a type, and returns what it has found that it may do.
func (m *machine) up(typ string) (pid int, may map[string]string) {
	m.Helper()
	m.do("hivectl", "up", typ, "--name", "one-"+typ)
	pid, url := m.worker(typ)
	require.NoError(m, json.Unmarshal([]byte(m.do(here+"/probe", "get", url)), &may))
	return pid, may
}

// What engines do works under the unit's restrictions, as the worker's user and as root;
// what they do not need does not.
func workers(m *machine) {
	for typ, user := range map[string]string{"probe": m.do("id", "-u", "hive-worker"), "root": "0"} {
		pid, got := m.up(typ)
		require.Equal(m, user, got["user"])
		for _, what := range []string{
			"write and execute", "share descriptors", "place memory", "choose processors", "list interfaces", "start a thread",
		} {
			require.Equal(m, "ok", got[what], "%s: %s", typ, what)
		}
		if typ == "root" || raisesLimits() {
			require.Equal(m, "ok", got["lock memory"], typ)
		}
		if runtime.GOARCH == "amd64" && m.runs32() {
			require.Equal(m, "ok", got["run a 32-bit helper"], typ)
		}
		if typ == "root" {
			require.Equal(m, "ok", got["run a setuid helper"])
		} else { // hive sees to that
			require.Equal(m, "it runs as user "+user, got["run a setuid helper"])
		}
		require.Contains(m, []string{"ok", "no such device or address", "no such device"}, got["open a GPU"], typ)
		for what, why := range map[string]string{
			"open a disk": "operation not permitted", "make a user": "operation not permitted", "make a network": "operation not permitted",
			"mount": "operation not permitted", "load a module": "operation not permitted", "set the clock": "operation not permitted",
			"take packets": "address family not supported", "use the kernel's AES": "address family not supported",
			"run in real time": "operation not permitted", "make a setuid file": "operation not permitted",
		} {
			require.Contains(m, got[what], why, "%s: %s", typ, what)
		}
		require.Regexp(m, `(?m)^0::/system\.slice/hive\.service(/daemon)?/hive-[^/]+/[^/]+$`, m.do("cat", "/proc/"+strconv.Itoa(pid)+"/cgroup"), "it has a cgroup of its own")
	}
}

// raisesLimits reports whether this system lets anybody raise limits: if not, neither can
// the machine's systemd.
func raisesLimits() bool {
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}) == nil
}

// runs32 reports whether the kernel runs 32-bit programs at all (CONFIG_IA32_EMULATION).
func (m *machine) runs32() bool {
	// Not by run: env(1) takes what the kernel refuses for a shell script.
	err := exec.Command(fmt.Sprintf("/proc/%d/root%s/probe32", m.init, here)).Run()
	return !errors.Is(err, unix.ENOEXEC)
}

// Each start of hive has a mount namespace of its own, and workers stay in the one that
// they were started in. What the machine mounts and unmounts comes to all of them.
func namespaces(m *machine) {
	pid, _ := m.worker("probe")
	m.do("systemctl", "restart", "hive")
	processes := []string{strconv.Itoa(pid), strconv.Itoa(m.mainPID())}
	space := func(of string) string { return m.do("readlink", "/proc/"+of+"/ns/mnt") }
	require.NotEqual(m, space(processes[0]), space(processes[1]))
	m.do("mkdir", "-p", "/srv/models")
	m.do("mount", "-t", "tmpfs", "tmpfs", "/srv/models")
	m.do("touch", "/srv/models/model.gguf")
	for _, pid := range processes {
		m.do("ls", "/proc/"+pid+"/root/srv/models/model.gguf")
	}
	m.do("umount", "/srv/models")
	for _, pid := range processes {
		require.Empty(m, m.do("ls", "/proc/"+pid+"/root/srv/models"))
	}
}

func (m *machine) squatters() []*stranger {
	return []*stranger{m.stranger("squat", "127.0.0.1:7835"), m.stranger("squat", "[::1]:7835")}
}

// A user's program that tries to take the ports of the API all the time has none of them
// while hive is started again, and a client's connections wait for the new one.
func nobodyTakesThePort(m *machine) {
	pid, _ := m.worker("probe")
	squatters := m.squatters()
	clients := []*stranger{m.stranger("ask", "127.0.0.1:7835"), m.stranger("ask", "[::1]:7835")}
	for range 5 {
		m.do("systemctl", "restart", "hive")
	}
	for _, c := range clients {
		require.NotZero(m, c.count())
	}
	for range 3 {
		was := m.mainPID()
		m.do("kill", "-KILL", strconv.Itoa(was))
		m.eventually("systemd has started hive again", func() bool {
			now := m.mainPID()
			return now != 0 && now != was && m.states()[0] == "active"
		})
	}
	for _, s := range squatters {
		require.Zero(m, s.count(), "%v", s.argv)
	}
	now, _ := m.worker("probe")
	require.Equal(m, pid, now)
}

func upgrade(m *machine) {
	pid, _ := m.worker("probe")
	was := m.mainPID()
	squatters, client := m.squatters(), m.stranger("ask", "127.0.0.1:7835")
	m.do("dpkg", "--install", here+"/1.0.1/rbeehive_1.0.1_"+runtime.GOARCH+".deb")
	require.Equal(m, all("active"), m.states())
	require.NotEqual(m, was, m.mainPID())
	require.NotZero(m, client.count())
	for _, s := range squatters {
		require.Zero(m, s.count(), "%v", s.argv)
	}
	now, _ := m.worker("probe")
	require.Equal(m, pid, now)
}

// However often a hive with a mistake in its file was started, the mended one is taken: by a
// start by hand, and by systemd itself.
func mistakes(m *machine) {
	const file = "/etc/hive/hive.yaml"
	good := m.read(file)
	pid, _ := m.worker("probe")
	m.write(file, good+"\nlissten: x\n")
	said, err := m.run("systemctl", "reload", "hive")
	require.Error(m, err, said)
	require.Equal(m, all("active"), m.states(), "a reload that fails leaves it serving")
	for range 12 { // more than systemd's own limit of five in ten seconds
		_, err := m.run("systemctl", "restart", "hive")
		require.Error(m, err)
	}
	m.write(file, good)
	m.do("systemctl", "restart", "hive")
	require.Equal(m, all("active"), m.states())

	m.write(file, good+"\nlissten: x\n")
	_, err = m.run("systemctl", "restart", "hive")
	require.Error(m, err)
	m.write(file, good)
	m.eventually("it starts by itself", func() bool { return m.active("hive.service")[0] == "active" })
	now, _ := m.worker("probe")
	require.Equal(m, pid, now, "the worker has served all the time")
}

// A hive that was stopped is not started by a connection.
func stopped(m *machine) {
	pid, _ := m.worker("probe")
	for name, stop := range map[string]func(){
		"systemctl":      func() { m.do("systemctl", "stop", "hive") },
		"hive's own end": func() { m.do("kill", "-TERM", strconv.Itoa(m.mainPID())) },
		"its socket":     func() { m.do("systemctl", "stop", "hive.socket") },
	} {
		stop()
		m.eventually("hive and its sockets are gone: "+name, func() bool {
			_, err := m.run(here+"/probe", "get", "http://127.0.0.1:7835/health")
			return err != nil && strings.Join(m.states(), " ") == "inactive inactive inactive"
		})
		squatters := m.squatters()
		m.do("sleep", "0.5")
		for _, s := range squatters {
			require.NotZero(m, s.count(), "a squatter that finds a free port takes it: %v", s.argv)
		}
		require.Equal(m, all("inactive"), m.states(), name)
		m.do("systemctl", "start", "hive")
		require.Equal(m, all("active"), m.states(), name)
	}
	now, _ := m.worker("probe")
	require.Equal(m, pid, now)
}

// hive serves where there is no IPv6 at all, and holds its port where it is turned off for
// the time being.
func withoutIPv6(m *machine) {
	m.do("mount", "-t", "tmpfs", "tmpfs", "/proc/1/net")
	m.do("systemctl", "stop", "hive.socket")
	m.do("systemctl", "start", "hive")
	require.Equal(m, "ok", m.do(here+"/probe", "get", "http://127.0.0.1:7835/health"))
	require.Equal(m, []string{"active", "active", "inactive"}, m.states())
	m.do("umount", "/proc/1/net")

	turn := func(off string) {
		out, err := exec.Command("nsenter", "--target", strconv.Itoa(m.init), "--net", "sh", "-c", "echo "+off+" >/proc/sys/net/ipv6/conf/all/disable_ipv6").CombinedOutput()
		require.NoError(m, err, string(out))
	}
	turn("1")
	m.do("systemctl", "stop", "hive.socket")
	m.do("systemctl", "start", "hive")
	require.Equal(m, all("active"), m.states())
	turn("0")
	require.Equal(m, "ok", m.do(here+"/probe", "get", "http://[::1]:7835/health"))
}

// What docs/install.md says about it.
func onAllAddresses(m *machine) {
	m.do("mkdir", "-p", "/etc/systemd/system/hive.socket.d", "/etc/systemd/system/hive.service.d")
	m.write("/etc/systemd/system/hive.socket.d/override.conf", "[Socket]\nListenStream=\nListenStream=/run/hive/hive.sock\nListenStream=7835\n")
	m.write("/etc/systemd/system/hive.service.d/override.conf", "[Service]\nEnvironment=HIVE_LISTEN=:7835\n")
	m.do("systemctl", "stop", "hive")
	m.do("systemctl", "mask", "hive-ipv6.socket")
	m.do("systemctl", "daemon-reload")
	m.do("systemctl", "start", "hive")
	require.Equal(m, []string{"active", "active", "inactive"}, m.states())
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "[::1]"} {
		require.Equal(m, "ok", m.do(here+"/probe", "get", "http://"+host+":7835/health"))
	}
	m.do("systemctl", "stop", "hive")
	m.do("systemctl", "revert", "hive.service", "hive.socket", "hive-ipv6.socket")
	m.do("systemctl", "start", "hive")
	require.Equal(m, all("active"), m.states())
}

// The lines of docs/install.md give a worker back what the unit takes away.
func opened(m *machine) {
	text, err := os.ReadFile("../../docs/install.md")
	require.NoError(m, err)
	_, lines, ok := strings.Cut(string(text), "```ini\n")
	require.True(m, ok)
	lines, _, ok = strings.Cut(lines, "```")
	require.True(m, ok)
	m.do("mkdir", "-p", "/etc/systemd/system/hive.service.d")
	m.write("/etc/systemd/system/hive.service.d/override.conf", lines)
	m.do("systemctl", "daemon-reload")
	m.do("systemctl", "restart", "hive")
	m.do("hivectl", "stop", "one-root")
	_, got := m.up("root")
	for _, what := range []string{"make a user", "make a network", "mount", "take packets", "make a setuid file"} {
		require.Equal(m, "ok", got[what], what)
	}
	require.NotContains(m, got["open a disk"], "operation not permitted")
	require.Equal(m, m.do("readlink", "/proc/1/ns/mnt"), m.do("readlink", "/proc/"+strconv.Itoa(m.mainPID())+"/ns/mnt"))
}

func removed(m *machine) {
	m.do("hivectl", "down")
	m.do("dpkg", "--purge", "rbeehive")
	require.Empty(m, m.do("sh", "-c", "systemctl list-units --all --plain --no-legend 'hive*' | grep -v not-found || true"))
	m.do("test", "-f", "/var/lib/hive/hive.db")
	m.do("getent", "passwd", "hive-worker")
	m.do("test", "-d", "/var/lib/hive-worker")
}
