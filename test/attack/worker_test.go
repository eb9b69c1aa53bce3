//go:build linux

package attack_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
	"rbeehive/test/program"
)

// environ is the environment of a worker, by name.
func (s *site) environ(w wire.Worker) map[string]string {
	s.Helper()
	var list []string
	s.ok(get("/environ").at("127.0.0.1:"+itoa(int(w.Port))), &list)
	vars := map[string]string{}
	for _, kv := range list {
		name, value, _ := strings.Cut(kv, "=")
		vars[name] = value
	}
	return vars
}

// What hive was given for itself is not passed on.
func TestAWorkerThatLooksAtItsEnvironment(t *testing.T) {
	service := []string{"CREDENTIALS_DIRECTORY", "SYSTEMD_EXEC_PID", "MAINPID", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "MANAGERPID", "STATE_DIRECTORY"}
	login := []string{"SSH_AUTH_SOCK", "SSH_CONNECTION", "SSH_AGENT_PID", "SUDO_COMMAND", "SUDO_USER", "SUDO_UID", "DBUS_SESSION_BUS_ADDRESS", "XAUTHORITY", "XDG_RUNTIME_DIR", "XDG_SESSION_ID"}
	secrets := []string{"AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PGPASSWORD", "SOMETHING_ELSE"}
	useful := []string{"LC_ALL", "TZ", "HF_HOME", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"}
	command := `command: [` + binary("server") + `, -port, "{{.Port}}"]`
	s := newSite(t, `workers:
  - {name: theirs, `+command+`, user: "54321:54321", env: [GITHUB_TOKEN]}
  - {name: own, `+command+`}
`)
	for _, list := range [][]string{service, login, secrets, useful, {"VIRTUAL_ENV"}} {
		for _, name := range list {
			s.env = append(s.env, name+"=of-hive")
		}
	}
	s.start()
	theirs, own := s.environ(s.up("theirs", "theirs")), s.environ(s.up("own", "own"))
	for _, name := range append(append(append([]string{}, service...), login...), secrets...) {
		if name == "GITHUB_TOKEN" {
			continue
		}
		t.Run(name+" of hive's, for a worker of another user", func(t *testing.T) { require.NotContains(t, theirs, name) })
	}
	for _, name := range append(append([]string{}, service...), login...) {
		if name == "XAUTHORITY" || name == "XDG_RUNTIME_DIR" || strings.HasPrefix(name, "SSH_") || strings.HasPrefix(name, "DBUS_") || strings.HasPrefix(name, "XDG_") {
			continue // hive's own user has these anyway
		}
		t.Run(name+" of hive's, for a worker of hive's user", func(t *testing.T) { require.NotContains(t, own, name) })
	}
	for _, name := range append(useful, "PATH") {
		require.Contains(t, theirs, name)
		require.Contains(t, own, name)
	}
	require.Equal(t, "of-hive", theirs["GITHUB_TOKEN"], "the entry has it passed on")
	require.Equal(t, "of-hive", own["VIRTUAL_ENV"])
	require.NotEqual(t, s.dir+"/home", theirs["HOME"])
}

// users puts a file with users in the place of /etc/passwd, for the tests alone.
func (s *site) users(lines string) {
	s.Helper()
	for _, file := range []string{"passwd", "group"} {
		had, err := os.ReadFile("/etc/" + file)
		require.NoError(s, err)
		line := lines
		if file == "group" {
			line = "hive-worker:x:54399:\n"
		}
		path := s.write(file, string(had)+line)
		require.NoError(s, unix.Mount(path, "/etc/"+file, "", unix.MS_BIND, ""))
		s.Cleanup(func() { require.NoError(s, unix.Unmount("/etc/"+file, 0)) })
	}
}

// A model server that was taken over is not root, although root's hive has started it
// and its entry names no user.
func TestAWorkerThatWasTakenOver(t *testing.T) {
	s := newSite(t, `workers: [{name: taken, command: [`+binary("server")+`, -port, "{{.Port}}"]}]`)
	s.users("hive-worker:x:54399:54399::/nonexistent:/usr/sbin/nologin\n")
	secret := s.secret("secret", "hunter2-of-root\n")
	helper := s.write("bin/helper", "") // set-user-ID, as su and mount are
	id, err := os.ReadFile("/usr/bin/id")
	require.NoError(t, err)
	require.NoError(t, program.Write(helper, id, 0o755))
	require.NoError(t, os.Chmod(helper, os.ModeSetuid|0o755))
	s.start()
	w := s.up("taken", "taken")
	sh := func(t *testing.T, script string) string {
		r := ask{Method: http.MethodPost, Path: "/sh", Body: script, At: "127.0.0.1:" + itoa(int(w.Port))}.send()
		require.Equal(t, 200, r.Status, "%s", r)
		return r.Body
	}
	require.Contains(t, sh(t, "echo works"), "works")
	pid := s.cmd.Process.Pid
	for _, attack := range []struct{ want, script, success string }{
		{"root's files", "cat " + secret, "hunter2"},
		{"hive's state", "ls " + s.data, "hive.db"},
		{"the rights of a set-user-ID program", helper + " -u", "0\n0"},
		{"to be root", "id -u", "0\n0"},
		{"to be in root's group", "id -G | tr ' ' '\n' | grep -qx 0 && echo root", "root\n"},
		{"capabilities", "grep '^Cap[EPIA]' /proc/self/status | grep -v 0000000000000000 && echo some", "some"},
		{"hive's memory", fmt.Sprintf("head -c1 /proc/%d/environ >/dev/null && echo read", pid), "read\n"},
		{"hive's end", fmt.Sprintf("kill -9 %d && echo killed", pid), "killed\n"},
	} {
		t.Run(attack.want, func(t *testing.T) {
			require.NotContains(t, sh(t, attack.script), attack.success)
			require.False(t, s.in(t).ended())
		})
	}
}

// A worker writes its own log and can do with it what it likes: a file that is one hole
// takes as long to read as a full one.
func TestALogThatIsAHole(t *testing.T) {
	s := newSite(t, `workers: [{name: holes, command: [`+binary("server")+`, -port, "{{.Port}}"], user: "54321:54321"}]`).start()
	w := s.up("holes", "holes")
	r := ask{Method: http.MethodPost, Path: "/hole", At: "127.0.0.1:" + itoa(int(w.Port))}.send()
	require.Equal(t, "ok", r.Body, "%s", r)
	for _, query := range []string{"tail=1", "tail=1000"} {
		t.Run("hive's time for its last lines: "+query, func(t *testing.T) {
			r := get("/v1/workers/holes/logs?" + query).within(5 * time.Second).send()
			require.Equal(t, 200, r.Status, "after %s: %s", r.Took, r)
		})
	}
	t.Run("hive's time after the client has gone", func(t *testing.T) {
		for _, query := range []string{"", "?tail=1", "?follow=1", "?tail=1&follow=1"} {
			get("/v1/workers/holes/logs" + query).within(500 * time.Millisecond).send()
		}
		before := cpu(s.cmd.Process.Pid)
		<-time.After(time.Second)
		require.Less(t, cpu(s.cmd.Process.Pid)-before, 500*time.Millisecond)
	})
	t.Run("that hive does not end while it searches the last lines", func(t *testing.T) {
		s := s.in(t)
		gone := make(chan reply, 1)
		go func() { gone <- get("/v1/workers/holes/logs?tail=1").within(timeout).send() }()
		<-time.After(200 * time.Millisecond)
		require.NoError(t, s.cmd.Process.Signal(unix.SIGTERM))
		s.await("the end of hive", s.ended)
		require.NotContains(t, s.printed(), "requests were aborted")
		<-gone
	})
}

// cpu is the processor time that a process has had.
func cpu(pid int) time.Duration {
	stat, _ := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest) // from field 3 on; 14 and 15 are utime and stime, in 1/100 s
	var user, system int
	if len(f) > 13 {
		_, _ = fmt.Sscan(f[11], &user)
		_, _ = fmt.Sscan(f[12], &system)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Somebody else has the port of a worker on another address: that says nothing about
// the worker.
func TestAPortOnTheOtherLoopbackAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("long: watches for 2.5 s twice that nothing happens")
	}
	s := newSite(t, "audit: {interval: 1s}\nworkers: [{name: cpu, live: {interval: 500ms, failures: 2, action: report}}]\n").start()
	w := s.up("cpu", "victim")
	for _, at := range []string{"::1", "127.0.0.2"} {
		t.Run("to make a worker on 127.0.0.1 seem unhealthy, from "+at, func(t *testing.T) {
			s := s.in(t)
			a := s.stranger().start(s.stranger().command("server", "-host", at, "-port", itoa(int(w.Port))))
			a.awaitLine("ready")
			unwell := s.within(2500*time.Millisecond, func() bool { return s.worker("victim").State != "ready" })
			now, err := json.Marshal(s.worker("victim"))
			require.NoError(t, err)
			require.False(t, unwell, "%s", now)
			require.NotContains(t, strings.Join(a.lines(), "\n"), "asked by")
		})
	}
}
