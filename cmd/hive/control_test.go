package main_test

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	hiveclient "rbeehive/httpapi/client"
	"rbeehive/test/skip"
)

// hiveAt asks the hive at a unix socket who it is, as hivectl does: net/http alone has no
// way to a path that is longer than sockaddr_un.
func hiveAt(t *testing.T, path string) error {
	t.Helper()
	c, err := hiveclient.New(hiveclient.Options{Addr: "unix:" + path})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Hive(t.Context())
	return err
}

// Every hive has a control socket, for its own user alone, and nothing needs be said.
func TestControlSocketIsThere(t *testing.T) {
	for name, below := range map[string]string{"usual": "state", "deep": strings.Repeat("d", 150) + "/state"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "")
			dir := filepath.Join(s.dir, below)
			s.env = append(s.env, "HIVE_DATA_DIR="+dir)
			path := filepath.Join(dir, "control.sock")
			p := s.start(t)
			require.Equal(t, os.FileMode(0o600), mode(t, path))
			require.NoError(t, hiveAt(t, path))
			banner := strings.Join(p.banner, "\n")
			require.NotContains(t, banner, "listen ", "it is where it always is")
			require.Contains(t, banner, "hivectl --addr unix:"+path+" up cpu")
			p.signal(syscall.SIGKILL)
			p.end()
			require.FileExists(t, path, "what a kill leaves")
			p = s.start(t)
			require.NoError(t, hiveAt(t, path))
			p.signal(syscall.SIGTERM)
			code, _ := p.end()
			require.Equal(t, 0, code, p.stderr.String())
			require.NoFileExists(t, path)
		})
	}
}

// listen: none is a hive that no other user, no web page and no network reaches.
func TestControlSocketAlone(t *testing.T) {
	s := newSite(t, "listen: none\nworkers: [{name: tell, command: [sh, -c, 'echo at {{.HiveURL}}']}]\n")
	s.env = append(s.env, "HIVE_PORT=")
	path := filepath.Join(s.dir, "state", "control.sock")
	p := s.start(t)
	require.Equal(t, "unix:"+path, p.url)
	require.NoError(t, hiveAt(t, path))
	require.Empty(t, listenersOf(t, p.cmd.Process.Pid))
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code, p.stderr.String())
}

// listenersOf is the TCP sockets that a process listens on, by the kernel's table.
func listenersOf(t *testing.T, pid int) (addrs []string) {
	t.Helper()
	own := socketsOf(t, pid)
	for _, table := range []string{"tcp", "tcp6"} {
		rows, err := os.ReadFile("/proc/net/" + table)
		require.NoError(t, err)
		for line := range strings.Lines(string(rows)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && own[f[9]] {
				addrs = append(addrs, f[1])
			}
		}
	}
	return addrs
}

// socketsOf is the inodes of the sockets that a process has open.
func socketsOf(t *testing.T, pid int) map[string]bool {
	t.Helper()
	fds, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	require.NoError(t, err)
	inodes := map[string]bool{}
	for _, fd := range fds {
		to, _ := os.Readlink(fd) // it may be closed already
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}

// The machine's hive has its socket where all look for it, for a group.
func TestControlSocketElsewhere(t *testing.T) {
	path := filepath.Join(shortDir(t), "hive.sock")
	s := newSite(t, "listen: ['127.0.0.1:0', 'unix:"+path+"']\nsocket: {path: "+path+", mode: '0660', group: '"+strconv.Itoa(os.Getegid())+"'}\n")
	p := s.start(t)
	require.Equal(t, os.FileMode(0o660), mode(t, path))
	require.NoError(t, hiveAt(t, path))
	require.NoFileExists(t, filepath.Join(s.dir, "state", "control.sock"))
	banner := strings.Join(p.banner, "\n")
	require.Regexp(t, `listen    127\.0\.0\.1:\d+, unix:`+path+"\n", banner)
	require.Contains(t, banner, "hivectl --addr unix:"+path+" up cpu")

	s.env = append(s.env, "HIVE_DATA_DIR="+filepath.Join(s.dir, "other"))
	code, _, stderr := s.command(t)
	require.Equal(t, 1, code)
	require.Regexp(t, `^hive: unix:`+path+` is held by process `+strconv.Itoa(p.cmd.Process.Pid)+` \(\S+\); stop it, or choose another path with socket.path\n$`, stderr)
	p.signal(syscall.SIGTERM)
	p.end()
	require.NoFileExists(t, path)

	s = newSite(t, "socket: {path: "+filepath.Join(s.dir, "gone", "s")+"}\n")
	code, _, stderr = s.command(t)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "does not exist; create it, writable only by hive's user (in a systemd unit: RuntimeDirectory=)")
}

// Of hives that start at once on one directory one serves; the others say who has it,
// and take nothing away.
func TestManyHivesOnOneDirectory(t *testing.T) {
	const n = 20
	s := newSite(t, "")
	first := s.start(t)
	first.signal(syscall.SIGKILL) // the socket that it leaves is what they fight for
	first.end()
	path := filepath.Join(s.dir, "state", "control.sock")
	type outcome struct {
		code   int
		stderr string
	}
	lost := make(chan outcome, n)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			cmd := s.program(nil)
			var errs strings.Builder
			cmd.Stderr = &errs
			_ = cmd.Run() // the exit code says it
			lost <- outcome{cmd.ProcessState.ExitCode(), errs.String()}
		})
	}
	for range n - 1 {
		o := <-lost
		require.Equal(t, 1, o.code, o.stderr)
		require.Regexp(t, ` is held by process \d+`, o.stderr)
	}
	require.NoError(t, hiveAt(t, path), "the one that is left serves")
	resp, err := overSocket(path).Post("http://localhost/v1/shutdown", "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	o := <-lost
	require.Equal(t, 0, o.code, o.stderr)
	all.Wait()
	require.NoFileExists(t, path)
}

// A data directory without a control socket is better than no hive, if there is another
// way to it; a place that somebody has chosen for it must do.
func TestFileSystemWithoutSockets(t *testing.T) {
	const dir, sysfs = "/sys", 0x62656572 // SYSFS_MAGIC: it lets nobody make files
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); os.Geteuid() != 0 || err != nil || fs.Type != sysfs {
		skip.Because(t, "needs root, and sysfs at "+dir)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer tcp.Close()
	var log bytes.Buffer
	addr, err := main.ListenControl(t.Context(), &config.Config{Config: hive.Config{DataDir: dir}, Socket: private}, &log, tcp)
	require.NoError(t, err)
	require.Equal(t, "http://"+tcp.Addr().String(), addr)
	require.Contains(t, log.String(), "no control socket; set socket.path, such as /run/hive/hive.sock")
	require.Contains(t, log.String(), "its file system does not support sockets")

	_, err = main.ListenControl(t.Context(), &config.Config{Config: hive.Config{DataDir: dir}, Socket: private}, &log)
	require.ErrorContains(t, err, "its file system does not support sockets", "it is all there is")
	chosen := private
	chosen.Path = dir + "/hive-test.sock"
	_, err = main.ListenControl(t.Context(), &config.Config{Config: hive.Config{DataDir: dir}, Socket: chosen}, &log, tcp)
	require.ErrorContains(t, err, "its file system does not support sockets")
}

// ipv6 skips a test on a machine without ::1.
func ipv6(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		skip.Because(t, "needs IPv6: "+err.Error())
	}
	require.NoError(t, ln.Close())
}

// A program that tries localhost by IPv6 first reaches hive.
func TestHiveHoldsIPv6Loopback(t *testing.T) {
	ipv6(t)
	for listen, answers := range map[string]bool{"127.0.0.1:0": true, "0.0.0.0:0": true, "127.0.0.2:0": false, "'127.0.0.1:0', '[::]:0'": true} {
		s := newSite(t, "listen: ["+listen+"]\nauth: none\n")
		s.env = append(s.env, "HIVE_PORT=")
		p := s.start(t)
		_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		code, _, err := get("http://[::1]:" + port + "/health")
		require.Equal(t, answers, err == nil && code == http.StatusOK, "%s: %v", listen, err)
		require.NotContains(t, strings.Join(p.banner, "\n"), "::1", "nobody has asked for it")
		p.signal(syscall.SIGTERM)
		exit, _ := p.end()
		require.Equal(t, 0, exit)
	}
}

// Somebody who has hive's port on ::1 is named; hive goes on.
func TestStrangerOnIPv6Loopback(t *testing.T) {
	ipv6(t)
	stranger, err := net.Listen("tcp6", "[::1]:0")
	require.NoError(t, err)
	defer stranger.Close()
	s := newSite(t, "")
	p := s.start(t, "--port", strconv.Itoa(stranger.Addr().(*net.TCPAddr).Port), "--log-format", "json")
	p.logs(`"address":"` + stranger.Addr().String() + `"`)
	p.logs(`(pid ` + strconv.Itoa(os.Getpid()) + `, user `)
	p.logs("another program listens on hive's port of ::1: programs that try localhost by IPv6 first reach it instead of hive")
	code, _, err := get(p.url + "/health")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	p.signal(syscall.SIGTERM)
	p.end()
}
