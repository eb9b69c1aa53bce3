package command_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/test/skip"
)

// strangerUID is nobody's of this machine.
const strangerUID = 54321

func needRoot(t *testing.T) {
	t.Helper()
	skip.UnlessRoot(t, "needs root to be another user")
}

// at serves a hive with one worker on a listener.
func at(t *testing.T, network, addr, worker string) *httptest.Server {
	t.Helper()
	ln, err := net.Listen(network, addr)
	require.NoError(t, err)
	return on(t, ln, worker)
}

func on(t *testing.T, ln net.Listener, worker string) *httptest.Server {
	server := httptest.NewUnstartedServer(&fake{t: t, routes: map[string]http.HandlerFunc{
		"GET /v1/workers": workers(`{"worker_id":"` + worker + `","state":"ready"}`), "GET /v1/leases": problem(401, "unauthorized", "a token is needed"),
	}})
	require.NoError(t, server.Listener.Close())
	server.Listener = ln
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// where is where the machine's hive is: a socket and an address.
type where struct{ socket, addr string }

// hivectl runs a command with some variables on such a machine.
func (w where) hivectl(t *testing.T, vars map[string]string, args ...string) result {
	t.Helper()
	return hivectlWith(t, func(e *cli.Env) {
		e.Getenv = func(name string) string { return vars[name] }
		e.Socket, e.Addr = w.socket, w.addr
	}, args...)
}

// shortDir is a directory whose path leaves room for a socket in sockaddr_un.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hive")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// Nobody need say where the hive is: this user's own goes first, then the machine's, by
// its socket and then by TCP.
func TestWhereTheHiveIs(t *testing.T) {
	dir := shortDir(t)
	own, system := filepath.Join(dir, "hive", "control.sock"), filepath.Join(dir, "hive.sock")
	require.NoError(t, os.Mkdir(filepath.Dir(own), 0o700))
	tcp := at(t, "tcp4", "127.0.0.1:0", "by-tcp")
	own1 := map[string]string{"XDG_STATE_HOME": dir, "HOME": "/nonexistent"}
	if os.Geteuid() == 0 {
		own1 = map[string]string{"HIVE_DATA_DIR": filepath.Join(dir, "hive")} // root's own is /var/lib/hive
	}
	id := func(vars map[string]string, args ...string) string {
		t.Helper()
		r := where{system, tcp.URL}.hivectl(t, vars, append([]string{"ps", "-q"}, args...)...)
		require.Zero(t, r.code, r.stderr)
		return strings.TrimSpace(r.stdout)
	}
	require.Equal(t, "by-tcp", id(own1))
	machines := at(t, "unix", system, "by-system")
	require.Equal(t, "by-system", id(own1))
	require.Equal(t, "by-system", id(map[string]string{"HIVE_DATA_DIR": "relative"}))
	owns := at(t, "unix", own, "by-own")
	require.Equal(t, "by-own", id(own1))
	require.Equal(t, "by-system", id(own1, "--addr", "unix:"+system))
	t.Chdir(dir)
	require.Equal(t, "by-own", id(map[string]string{"HIVE_DATA_DIR": "hive"}))
	require.Equal(t, "by-own", id(map[string]string{"HIVE_DATA_DIR": filepath.Join(dir, "hive"), "HIVE_ADDR": ""}))
	require.Equal(t, "by-tcp", id(map[string]string{"HIVE_DATA_DIR": filepath.Join(dir, "hive"), "HIVE_ADDR": tcp.URL}))

	tcp.Close()
	owns.Close()
	machines.Close()
	r := where{system, tcp.URL}.hivectl(t, map[string]string{"HIVE_DATA_DIR": filepath.Join(dir, "hive")}, "ps")
	require.Equal(t, 4, r.code)
	require.Regexp(t, `^hivectl: no hive at unix:`+own+`, unix:`+system+`, `+tcp.URL+`: dial tcp \S+ connect: connection refused\nhint: start it with .*\n$`, r.stderr)
}

// A stranger on the port of a hive is not given the token, and is named.
func TestSquatterIsNamed(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("0wn\n"), 0o600))
	var ln net.Listener
	err := errors.New("not run")
	done := make(chan struct{})
	go func() { // a socket belongs to whom the thread's file system uid is
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, strangerUID, 0, 0)
		ln, err = net.Listen("tcp4", "127.0.0.1:0")
	}()
	<-done
	require.NoError(t, err)
	on(t, ln, "a stranger's")
	addr := ln.Addr().String()
	machine := where{filepath.Join(dir, "none"), "http://" + addr}
	for _, args := range [][]string{{"ps"}, {"ps", "--addr", "localhost:" + addr[len("127.0.0.1:"):]}, {"jobs", "watch", "job-1"}, {"ps", "--token-file", filepath.Join(dir, "token"), "--addr", addr}} {
		r := machine.hivectl(t, map[string]string{"HIVE_DATA_DIR": dir}, args...)
		require.Equal(t, 4, r.code, r.stderr)
		require.Regexp(t, `^hivectl: `+addr+`: the listener belongs to \S+ \(pid \d+, user 54321\), but the token is for a hive of root, .*\nhint: check what listens there, .*\n$`, r.stderr)
	}
	require.NoError(t, os.Chown(filepath.Join(dir, "token"), strangerUID, -1)) // root may read it all the same
	r := machine.hivectl(t, map[string]string{"HIVE_DATA_DIR": dir}, "ps", "-q")
	require.Equal(t, "a stranger's\n", r.stdout, "the token is that user's own: %s", r.stderr)
}

// Who may not open the machine's socket is told so, and what to do.
func TestSocketThatIsShut(t *testing.T) {
	needRoot(t)
	dir := shortDir(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	system := filepath.Join(dir, "hive.sock")
	at(t, "unix", system, "by-system")
	require.NoError(t, os.Chmod(system, 0o660))
	tcp := at(t, "tcp4", "127.0.0.1:0", "by-tcp")
	run := func(args ...string) (code int, stderr string) {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = []string{systemEnv + "=" + system + " " + tcp.URL, "GORACE=atexit_sleep_ms=0"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: strangerUID, Gid: strangerUID}}
		var errs strings.Builder
		cmd.Stderr = &errs
		_ = cmd.Run() // the exit code says it
		return cmd.ProcessState.ExitCode(), errs.String()
	}
	code, stderr := run("ps")
	require.Zero(t, code, stderr)
	code, stderr = run("leases", "list")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "hint: you have no permission to open unix:"+system+": join its group and log in again")
	code, stderr = run("ps", "--addr", "unix:"+system)
	require.Equal(t, 4, code)
	require.Contains(t, stderr, "permission denied\nhint: join the group of that socket and log in again")
}
