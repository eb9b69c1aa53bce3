package main_test

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/sockets"
	"rbeehive/test/skip"
)

// hand gives hive listeners, as a service manager does: it keeps them open itself.
func (s *site) hand(t *testing.T, lns ...net.Listener) {
	t.Helper()
	s.env = append(s.env, "HIVE_PORT=") // nobody says where to listen
	for _, ln := range lns {
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		s.passed = append(s.passed, f)
	}
}

func listenOn(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	require.NoError(t, err)
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// hive serves what a service manager has opened, keeps it from its workers, and leaves
// it as it was. Between two starts the port and the path are nobody else's.
func TestSocketsOfTheServiceManager(t *testing.T) {
	tcp, path := listenOn(t, "tcp4", "127.0.0.1:0"), filepath.Join(shortDir(t), "hive.sock")
	control := listenOn(t, "unix", path)
	require.NoError(t, os.Chmod(path, 0o620))
	s := newSite(t, "")
	s.hand(t, tcp, control)
	waiting, err := net.Dial("tcp", tcp.Addr().String()) // it comes before hive does
	require.NoError(t, err)
	defer waiting.Close()
	_, err = waiting.Write([]byte("GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n"))
	require.NoError(t, err)

	for range 2 {
		p := s.start(t, "--log-level", "info")
		require.Equal(t, "http://"+tcp.Addr().String(), p.url)
		require.NoFileExists(t, filepath.Join(s.dir, "state", "control.sock"), "the one that was handed over is it")
		banner := strings.Join(p.banner, "\n")
		require.Contains(t, banner, "listen    "+tcp.Addr().String()+", unix:"+path+"\n")
		require.Contains(t, banner, "hivectl --addr unix:"+path+" up")
		require.NoError(t, hiveAt(t, path))
		if waiting != nil {
			answer, err := bufio.NewReader(waiting).ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, answer, "HTTP/1.0 ", "200, or 503 because hive recovers")
			waiting = nil
		}
		p.sighup("msg=reloaded")
		require.NoError(t, hiveAt(t, path))

		w := p.spawn(spawnCPU)
		environ, err := os.ReadFile("/proc/" + strconv.Itoa(w.PID) + "/environ")
		require.NoError(t, err)
		require.NotContains(t, string(environ), "LISTEN_")
		for inode := range socketsOf(t, w.PID) {
			require.False(t, socketsOf(t, os.Getpid())[inode], "the worker has a socket of the service manager")
		}
		p.signal(syscall.SIGTERM)
		code, _ := p.end()
		require.Equal(t, 0, code, p.stderr.String())
		require.Equal(t, os.FileMode(0o620), mode(t, path), "neither changed nor removed")
		_, err = net.Listen("tcp4", tcp.Addr().String())
		require.ErrorIs(t, err, syscall.EADDRINUSE)
	}
}

// What is handed over stands for what listen and socket.path say, and goes beside the
// rest.
func TestSocketsOfTheServiceManagerAndListen(t *testing.T) {
	dir := shortDir(t)
	own := strconv.Itoa(freePort(t))
	one, other := listenOn(t, "tcp4", "127.0.0.1:0"), listenOn(t, "tcp4", "127.0.0.1:0")
	first, second := listenOn(t, "unix", dir+"/first"), listenOn(t, "unix", dir+"/second")
	s := newSite(t, "listen: ['127.0.0.1:"+own+"', '"+one.Addr().String()+"', 'unix:"+dir+"/first']\nsocket: {path: "+dir+"/second}\n")
	s.hand(t, one, other, first, second)
	p := s.start(t)
	for _, addr := range []string{"127.0.0.1:" + own, one.Addr().String(), other.Addr().String()} {
		code, _, err := get("http://" + addr + "/health")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code)
	}
	require.NoError(t, hiveAt(t, dir+"/first"))
	require.NoError(t, hiveAt(t, dir+"/second"))
	require.Contains(t, strings.Join(p.banner, "\n"), "--addr unix:"+dir+"/second up")
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Equal(t, 0, code, p.stderr.String())

	// A control socket that was asked for elsewhere is opened there.
	s = newSite(t, "socket: {path: "+dir+"/third}\n")
	s.hand(t, first)
	p = s.start(t)
	require.NoError(t, hiveAt(t, dir+"/first"))
	require.NoError(t, hiveAt(t, dir+"/third"))
	p.signal(syscall.SIGTERM)
	p.end()
	require.FileExists(t, dir+"/first")
	require.NoFileExists(t, dir+"/third")
}

// A socket that others can reach has a token for them, whoever has opened it.
func TestExposedSocketOfTheServiceManager(t *testing.T) {
	s := newSite(t, "")
	ln := listenOn(t, "tcp4", "0.0.0.0:0")
	s.hand(t, ln)
	p := s.start(t)
	require.FileExists(t, s.dir+"/state/token")
	p.signal(syscall.SIGTERM)
	p.end()
}

// What hive cannot serve is refused by name, before anything is touched.
func TestDescriptorsThatAreRefused(t *testing.T) {
	socket := func(domain, kind int, listen bool) *os.File {
		fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		f := os.NewFile(uintptr(fd), "")
		t.Cleanup(func() { f.Close() })
		if listen {
			require.NoError(t, unix.Listen(fd, 1))
		}
		return f
	}
	abstract, err := listenOn(t, "unix", "@hive-test-"+strconv.Itoa(os.Getpid())).(*net.UnixListener).File()
	require.NoError(t, err)
	defer abstract.Close()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	for name, tc := range map[string]struct {
		file *os.File
		want string
	}{
		"a file":        {null, "getsockopt: socket operation on non-socket"},
		"datagrams":     {socket(unix.AF_INET, unix.SOCK_DGRAM, false), "a socket of type 2"},
		"not listening": {socket(unix.AF_INET, unix.SOCK_STREAM, false), "a socket that does not listen"},
		"abstract":      {abstract, `the unix socket "@hive-test-`},
		"a packet one":  {socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, false), "a socket of type 5"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "")
			s.hand(t, listenOn(t, "tcp4", "127.0.0.1:0"))
			s.passed = append(s.passed, tc.file)
			code, stdout, stderr := s.command(t)
			require.Equal(t, 1, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, "hive: descriptor 4 (LISTEN_FD_4) of the service manager (LISTEN_FDS): "+tc.want)
			require.Contains(t, stderr, "hive accepts listening TCP sockets and unix stream sockets with a path: correct the socket unit\n")
			require.Equal(t, 1, strings.Count(stderr, "\n"))
			require.NoDirExists(t, filepath.Join(s.dir, "state"))
		})
	}
}

// Variables that were meant for somebody else are not taken for hive's.
func TestDescriptorsOfAnotherProcess(t *testing.T) {
	s := newSite(t, "")
	s.env = append(s.env, "LISTEN_FDS=1", "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	p := s.start(t)
	require.NoError(t, hiveAt(t, filepath.Join(s.dir, "state", "control.sock")))
	w := p.spawn(spawnCPU)
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(w.PID) + "/environ")
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(strings.Split(string(environ), "\x00"), func(kv string) bool { return strings.HasPrefix(kv, "LISTEN_") }))
	p.signal(syscall.SIGTERM)
	p.end()
}

// Who has bound hive's port before can come between hive and its callers, and is named.
func TestRivalForThePort(t *testing.T) {
	snap, err := sockets.NewTable().Snapshot(t.Context(), 0)
	require.NoError(t, err)
	if !snap.BoundKnown {
		skip.Because(t, "needs Linux 6.8, which lists sockets that are only bound")
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := unix.Getsockname(fd)
	require.NoError(t, err)
	s := newSite(t, "")
	p := s.start(t, "--port", strconv.Itoa(at.(*unix.SockaddrInet4).Port))
	p.logs("another program has bound hive's port too")
	p.logs("(pid " + strconv.Itoa(os.Getpid()) + ", user ")
	p.signal(syscall.SIGTERM)
	p.end()
}
