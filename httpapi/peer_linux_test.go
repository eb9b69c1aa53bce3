package httpapi_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/access"
	"rbeehive/test/skip"
)

// serveSocket serves r's hive on a unix socket too.
func (r *rig) serveSocket() (path string) {
	r.Helper()
	dir, err := os.MkdirTemp("", "hive") // r.TempDir is below one that only its owner may enter
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, os.RemoveAll(dir)) })
	require.NoError(r, os.Chmod(dir, 0o711))
	path = filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	require.NoError(r, err)
	require.NoError(r, os.Chmod(path, 0o666))
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(ln) }()
	r.Cleanup(func() { // after the rig's own end
		_ = ln.Close()
		<-served
	})
	return path
}

// dialAs connects to a socket as another user: on a thread of its own that has
// taken on their rights and ends with them.
func dialAs(t *testing.T, uid uint32, path string) net.Conn {
	t.Helper()
	done := make(chan error, 1)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			done <- errno
			return
		}
		done <- unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}()
	require.NoError(t, <-done)
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	conn, err := net.FileConn(f)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// admins is the policy that lets users do everything.
func admins(uids ...uint32) *access.Policy {
	return &access.Policy{Admin: access.Set{UIDs: uids}}
}

// A caller over the socket is known, and may lease to processes of their own.
func TestLeaseOverTheSocketKnowsTheCaller(t *testing.T) {
	skip.UnlessRoot(t, "only root can be another user")
	r := newRig(t, rigOptions{access: admins(54321)})
	path := r.serveSocket()
	post := func(conn net.Conn) string {
		body := fmt.Sprintf(`{"pid": %d}`, os.Getppid()) // a process of root
		fmt.Fprintf(conn, "POST /v1/leases HTTP/1.1\r\nHost: anything\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		return readAll(t, conn)
	}
	answer := post(dialAs(t, 54321, path))
	require.Contains(t, answer, "403 Forbidden")
	require.Contains(t, answer, `"code":"forbidden"`)
	require.Contains(t, answer, "a process of the user with uid 0; the caller has uid 54321")
	require.Contains(t, r.get("/v1/leases", http.StatusOK), `"leases":[]`)
	require.Contains(t, post(dialAs(t, 0, path)), "201 Created")
}
