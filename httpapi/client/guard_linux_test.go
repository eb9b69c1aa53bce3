package client_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/client"
)

func withToken(o *client.Options) { o.Token = "s3cret" }

// portOf is the port of an address.
func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}

// A hive's port is whose who comes first while hive is down. The token is not sent to
// another user's program, by whatever name or address it is reached.
func TestTokenIsNotForASquatter(t *testing.T) {
	own := "127.0.0.1"
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
				own = n.IP.String()
			}
		}
	}
	for _, tc := range []struct{ network, listen, host string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4", "127.0.0.1:0", "localhost"},
		{"tcp4", "127.0.0.1:0", "LOCALHOST."},
		{"tcp4", "127.0.0.1:0", "0.0.0.0"},
		{"tcp4", "127.0.0.1:0", "[::ffff:127.0.0.1]"},
		{"tcp4", "127.0.0.9:0", "127.0.0.9"},
		{"tcp4", "0.0.0.0:0", "127.0.0.1"},
		{"tcp4", "0.0.0.0:0", own},
		{"tcp", "[::]:0", "127.0.0.1"},
		{"tcp6", "[::1]:0", "[::1]"},
		{"tcp6", "[::1]:0", "[::]"},
		{"tcp", "[::]:0", "[::1]"},
	} {
		t.Run(tc.listen+" as "+tc.host, func(t *testing.T) {
			s := startSquatter(t, tc.network, tc.listen)
			addr := "http://" + tc.host + ":" + portOf(t, s.addr)
			_, err := connect(t, addr, withToken).Hive(testContext(t))
			require.ErrorIs(t, err, client.ErrUntrustedListener)
			require.NotErrorIs(t, err, client.ErrUnreachable, "who follows a job must not wait for it to get better")
			require.ErrorContains(t, err, "(pid "+strconv.Itoa(s.pid)+", user "+strconv.Itoa(strangerUID)+")")
			require.Empty(t, s.end(), "it got nothing, not even a request")
		})
	}
}

// Without a token there is nothing to keep from anybody, and one that is named can
// be for the hive of another user.
func TestWhomAListenerMayBelongTo(t *testing.T) {
	s := startSquatter(t, "tcp4", "127.0.0.1:0")
	reply, err := connect(t, s.addr).Hive(testContext(t))
	require.NoError(t, err)
	require.Equal(t, "a stranger", reply.Value.HiveID)
	_, err = connect(t, s.addr, withToken, func(o *client.Options) { o.TokenUIDs = []uint32{strangerUID} }).Hive(testContext(t))
	require.NoError(t, err)
	require.Contains(t, s.end(), "Authorization: Bearer s3cret\n")
}

// The user that the kernel shows for all whom it cannot show is nobody to be trusted.
func TestOverflowUserIsTrustedByNobody(t *testing.T) {
	var ln net.Listener
	var err error
	asUser(t, 65534, func() { ln, err = net.Listen("tcp4", "127.0.0.1:0") })
	require.NoError(t, err)
	defer ln.Close()
	_, err = connect(t, ln.Addr().String(), withToken, func(o *client.Options) { o.TokenUIDs = []uint32{65534} }).Hive(testContext(t))
	require.ErrorIs(t, err, client.ErrUntrustedListener)
}

// seen is a hive that remembers the tokens and hosts of its requests.
func seen(t *testing.T, ln net.Listener) (hosts, tokens *[]string) {
	t.Helper()
	hosts, tokens = new([]string), new([]string)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*hosts, *tokens = append(*hosts, r.Host), append(*tokens, r.Header.Get("Authorization"))
		writeJSON(w, 200, `{"hive_id":"here"}`)
	}))
	require.NoError(t, server.Listener.Close())
	server.Listener = ln
	server.Start()
	t.Cleanup(server.Close)
	return hosts, tokens
}

// localhost is where a hive listens, also where somebody else has its port on ::1.
func TestLocalhostIsIPv4(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	port := portOf(t, ln.Addr().String())
	stranger, err := net.Listen("tcp6", "[::1]:"+port)
	require.NoError(t, err)
	defer stranger.Close()
	hosts, _ := seen(t, ln)
	for _, host := range []string{"localhost", "LocalHost"} {
		_, err = connect(t, "http://"+host+":"+port, withToken).Hive(testContext(t))
		require.NoError(t, err)
	}
	require.Equal(t, []string{"localhost:" + port, "LocalHost:" + port}, *hosts)
}

// More exact listeners come first, for the kernel and for the client: a hive's own
// address may be somebody else's elsewhere.
func TestListenerOfTheVeryAddressCounts(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	seen(t, ln)
	var stranger net.Listener
	asUser(t, strangerUID, func() { stranger, err = net.Listen("tcp4", "127.0.0.7:"+portOf(t, ln.Addr().String())) })
	require.NoError(t, err)
	defer stranger.Close()
	_, err = connect(t, ln.Addr().String(), withToken).Hive(testContext(t))
	require.NoError(t, err)
}

// The port goes from one to another between the two looks and the connect: what is
// connected to need not be what was seen, either time.
func TestPortThatChangesHands(t *testing.T) {
	needRoot(t)
	first, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	addr := first.Addr().String()
	var squatter, second net.Listener
	c := connect(t, addr, withToken)
	c.OnConnect(func(syscall.RawConn) { // the hive ends, and a squatter is quicker than the next one
		require.NoError(t, first.Close())
		asUser(t, strangerUID, func() { squatter, err = net.Listen("tcp4", addr) })
		require.NoError(t, err)
	}, func() { // the squatter has the connection, and makes room for the hive
		conn, err := squatter.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, squatter.Close())
		second, err = net.Listen("tcp4", addr)
		require.NoError(t, err)
		t.Cleanup(func() { second.Close() })
	})
	_, err = c.Hive(testContext(t))
	require.ErrorContains(t, err, "the listener changed while connecting")
	require.ErrorIs(t, err, client.ErrUnreachable, "a hive that is started again does the same")
}

func TestSquatterOfAPortThatWasFree(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	var squatter net.Listener
	c := connect(t, ln.Addr().String(), withToken)
	c.OnConnect(func(syscall.RawConn) {
		asUser(t, strangerUID, func() { squatter, err = net.Listen("tcp4", ln.Addr().String()) })
		require.NoError(t, err)
	}, func() {
		require.NoError(t, squatter.Close())
	})
	_, err = c.Hive(testContext(t))
	require.ErrorContains(t, err, "the listener changed while connecting")
}

// reuse lets several sockets bind one address as long as none of them listens.
func reuse(_, _ string, raw syscall.RawConn) (err error) {
	ctl := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errorsOf(ctl, err)
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Who has bound a port before its hive listens can connect from it, to the very port
// that a client connects from: the two are connected then, past the listener, which is
// there all the time and is the right one.
func TestConnectionPastTheListener(t *testing.T) {
	probe, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	hive := probe.Addr().(*net.TCPAddr)
	require.NoError(t, probe.Close())
	victim, err := net.Listen("tcp4", "127.0.0.1:0") // a port that the client will connect from
	require.NoError(t, err)
	from := victim.Addr().(*net.TCPAddr)
	require.NoError(t, victim.Close())
	at := func(a *net.TCPAddr) *unix.SockaddrInet4 {
		return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte{127, 0, 0, 1}}
	}

	var attacker int
	asUser(t, strangerUID, func() {
		attacker, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		err = errorsOf(err, unix.SetsockoptInt(attacker, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(attacker, at(hive)))
	})
	require.NoError(t, err)
	defer unix.Close(attacker)
	ln, err := net.ListenTCP("tcp4", hive)
	require.NoError(t, err, "a hive does not notice")
	defer ln.Close()
	// What is left of a connection between the two ports keeps the kernel from
	// refusing the next one: the attacker's goes on trying.
	past, err := (&net.Dialer{LocalAddr: from, Control: reuse}).Dial("tcp4", hive.String())
	require.NoError(t, err)
	accepted, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, past.Close())
	_, err = accepted.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, accepted.Close())
	require.ErrorIs(t, unix.Connect(attacker, at(from)), unix.EINPROGRESS)

	c := connect(t, hive.String(), withToken)
	met := false
	c.OnConnect(func(raw syscall.RawConn) {
		require.NoError(t, reuse("", "", raw))
		require.NoError(t, raw.Control(func(fd uintptr) { require.NoError(t, unix.Bind(int(fd), at(from))) }))
	}, func() {
		peer, err := unix.Getpeername(attacker)
		met = err == nil && peer.(*unix.SockaddrInet4).Port == from.Port
	})
	_, err = c.Hive(testContext(t))
	require.True(t, met, "the attack itself works: %v", err)
	require.ErrorIs(t, err, client.ErrUntrustedListener)
	require.ErrorContains(t, err, "user "+strconv.Itoa(strangerUID))
	got := make([]byte, 4096)
	n, err := unix.Read(attacker, got)
	require.False(t, err == nil && n > 0, "%q", got[:max(n, 0)])
}

// A listener of root's service manager is handed to a hive that is another user's: it
// is that user who gets what is sent.
func TestAcceptedByAnotherUser(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	for owner, want := range map[uint32]error{strangerUID: nil, strangerUID + 1: client.ErrUntrustedListener} {
		c := connect(t, ln.Addr().String(), withToken, func(o *client.Options) { o.TokenUIDs = []uint32{owner} })
		c.OnConnect(func(syscall.RawConn) {}, func() {
			var conn net.Conn
			asUser(t, strangerUID, func() { conn, err = ln.Accept() })
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
			go func() {
				_, _ = conn.Read(make([]byte, 4096)) // the answer is what counts
				_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"))
			}()
		})
		_, err = c.Hive(testContext(t))
		require.ErrorIs(t, err, want)
	}
}

// A proxy would read the token, and never sees what stays on this machine.
func TestTokenIsNotForAProxy(t *testing.T) {
	proxy := startSquatter(t, "tcp4", "127.0.0.1:0")
	local, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	_, tokens := seen(t, local)
	for addr, want := range map[string]string{
		"http://gpubox.invalid:7835":                           "proxy http://" + proxy.addr + ": the token for http://gpubox.invalid:7835 would go through it in clear text\ntrue",
		"http://" + local.Addr().String():                      "<nil>\nfalse",
		"http://LOCALHOST:" + portOf(t, local.Addr().String()): "<nil>\nfalse",
		"http://0.0.0.0:" + portOf(t, local.Addr().String()):   "<nil>\nfalse",
	} {
		cmd := asStranger(t, "ask "+addr)
		cmd.Env = append(cmd.Env, "HTTP_PROXY=http://"+proxy.addr, "http_proxy=http://"+proxy.addr, "NO_PROXY=", "no_proxy=")
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Contains(t, string(out), want, addr)
	}
	require.Equal(t, []string{"Bearer s3cret", "Bearer s3cret", "Bearer s3cret"}, *tokens)
	require.Empty(t, proxy.end())
}

// The first address that takes a connection is the hive's, and stays it.
func TestFirstHiveThatAnswers(t *testing.T) {
	dir := shortDir(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	own, system, stale := dir+"/own.sock", dir+"/system.sock", dir+"/stale.sock"
	gone, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: stale})
	require.NoError(t, err)
	gone.SetUnlinkOnClose(false)
	require.NoError(t, gone.Close())
	ln, err := net.Listen("unix", system)
	require.NoError(t, err)
	_, tokens := seen(t, ln)
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	seen(t, tcp)
	addrs := []string{"unix:" + own, "unix:" + stale, "unix:" + dir + "/none/s", "unix:" + system, "http://" + tcp.Addr().String()}
	several := func(o *client.Options) { o.Addrs = addrs }

	c := connect(t, "", several, withToken, func(o *client.Options) { o.ImplicitToken = true })
	require.Equal(t, strings.Join(addrs, ", "), c.Addr())
	_, err = c.Hive(testContext(t))
	require.NoError(t, err)
	require.Equal(t, "unix:"+system, c.Addr())
	require.Empty(t, c.Denied())
	require.Equal(t, []string{""}, *tokens, "a token that nobody has named is for TCP")
	later, err := net.Listen("unix", own)
	require.NoError(t, err)
	defer later.Close()
	c.Close()
	_, err = c.Hive(testContext(t))
	require.NoError(t, err)
	require.Equal(t, "unix:"+system, c.Addr(), "the same hive, also when another one has come")

	_, err = connect(t, "unix:"+system, withToken).Hive(testContext(t))
	require.NoError(t, err)
	require.Equal(t, "Bearer s3cret", (*tokens)[2], "one that was named goes where it was said")
}

func TestNoneAnswers(t *testing.T) {
	dir := shortDir(t)
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, tcp.Close())
	addr := tcp.Addr().String()
	c := connect(t, "", func(o *client.Options) { o.Addrs = []string{"unix:" + dir + "/s", addr} })
	_, err = c.Hive(testContext(t))
	require.ErrorIs(t, err, client.ErrUnreachable)
	require.EqualError(t, err, "no hive at unix:"+dir+"/s, "+addr+": dial tcp "+addr+": connect: connection refused")
	ln, err := net.Listen("tcp4", addr) // it is tried again
	require.NoError(t, err)
	seen(t, ln)
	_, err = c.Hive(testContext(t))
	require.NoError(t, err)
	require.Equal(t, addr, c.Addr())
}

// Another user's sockets are not for everybody: who may not open one gets to the next
// hive, and is told.
func TestSocketThatMayNotBeOpened(t *testing.T) {
	dir := shortDir(t)
	require.NoError(t, os.Chmod(dir, 0o755))
	ln, err := net.Listen("unix", dir+"/hive.sock")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir+"/hive.sock", 0o660))
	defer ln.Close()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	seen(t, tcp)
	out, err := asStranger(t, "ask unix:"+dir+"/hive.sock "+tcp.Addr().String()).Output()
	require.NoError(t, err)
	require.Equal(t, tcp.Addr().String()+"\nunix:"+dir+"/hive.sock\nhere\n<nil>\nfalse\n", string(out))
	out, err = asStranger(t, "ask unix:"+dir+"/hive.sock unix:"+dir+"/none").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "dial unix "+dir+"/hive.sock: connect: permission denied; dial unix "+dir+"/none: connect: no such file or directory")
}

// In a directory that all may write to, a path is whose who comes first.
func TestSquatterOnASocket(t *testing.T) {
	needRoot(t)
	dir := shortDir(t)
	require.NoError(t, os.Chmod(dir, 0o1777))
	s := startSquatter(t, "unix", dir+"/hive.sock")
	for _, o := range []client.Options{{Addr: "unix:" + s.addr}, {Addrs: []string{"unix:" + s.addr, "unix:/nonexistent"}}} {
		_, err := connect(t, "", func(opts *client.Options) { *opts = o }).Hive(testContext(t))
		require.ErrorIs(t, err, client.ErrUntrustedListener)
		require.EqualError(t, err, "unix:"+s.addr+": the socket is served by user "+strconv.Itoa(strangerUID)+" (pid "+strconv.Itoa(s.pid)+"), who is neither root nor this user nor the owner of its directory")
	}
	require.Empty(t, s.end())

	// A directory of a stranger's own: only who names the path means that stranger, but
	// for a place that only root can have given away.
	for name, tc := range map[string]struct {
		parent os.FileMode
		found  bool
	}{"in root's directory": {0o755, true}, "among everybody's": {0o1777, false}} {
		t.Run(name, func(t *testing.T) {
			parent := shortDir(t)
			require.NoError(t, os.Mkdir(parent+"/hive", 0o755))
			require.NoError(t, os.Chown(parent+"/hive", strangerUID, strangerUID))
			require.NoError(t, os.Chmod(parent, tc.parent))
			s := startSquatter(t, "unix", parent+"/hive/hive.sock")
			_, err := connect(t, "unix:"+s.addr).Hive(testContext(t))
			require.NoError(t, err)
			c := connect(t, "", func(o *client.Options) { o.Addrs = []string{"unix:" + s.addr, "unix:/nonexistent/s"} })
			_, err = c.Hive(testContext(t))
			require.Equal(t, tc.found, err == nil, "%v", err)
		})
	}
}

func TestLongSocketPath(t *testing.T) {
	dir := shortDir(t) + "/" + strings.Repeat("d", 200)
	require.NoError(t, os.Mkdir(dir, 0o700))
	t.Chdir(dir)
	ln, err := net.Listen("unix", "s")
	require.NoError(t, err)
	seen(t, ln)
	_, err = connect(t, "unix:"+dir+"/s").Hive(testContext(t))
	require.NoError(t, err)
	_, err = connect(t, "unix:"+dir+"/none").Hive(testContext(t))
	require.ErrorContains(t, err, "dial unix "+dir+"/none: connect: no such file")
}

// shortDir is a directory whose path leaves room for a socket in sockaddr_un.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hive")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// Each new connection is looked at: what was trusted an hour ago may be gone.
func TestEveryConnectionIsLookedAt(t *testing.T) {
	needRoot(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, `{}`) }))
	require.NoError(t, server.Listener.Close())
	server.Listener = ln
	server.Start()
	c := connect(t, ln.Addr().String(), withToken)
	_, err = c.Hive(testContext(t))
	require.NoError(t, err)
	server.CloseClientConnections()
	server.Close()
	s := startSquatter(t, "tcp4", ln.Addr().String())
	require.Eventually(t, func() bool {
		_, err = c.Hive(testContext(t))
		return err != nil
	}, 10*time.Second, time.Millisecond)
	require.ErrorIs(t, err, client.ErrUntrustedListener)
	require.Empty(t, s.end())
}
