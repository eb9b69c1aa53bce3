package sockets_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/sockets"
)

const roleEnv = "SOCKETS_TEST_ROLE"

// Only an initialiser can keep the main goroutine on the main thread, which the
// role zombie-leader has to end.
func init() {
	if os.Getenv(roleEnv) == "zombie-leader" {
		runtime.LockOSThread()
	}
}

// TestMain runs the tests, or one of the programs that they start.
func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		goleak.VerifyTestMain(m)
	case "listen":
		serve(func() {})
	case "zombie-leader":
		serve(exitMainThread)
	case "owned-by":
		askOwnedBy()
	}
	os.Exit(2)
}

// serve listens, prints its port, and waits for its standard input to end.
func serve(then func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	then()
	<-done
}

// exitMainThread ends the thread that is the leader of the process, and only it.
func exitMainThread() {
	if unix.Gettid() != unix.Getpid() {
		panic("not on the main thread")
	}
	_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
}

// askOwnedBy prints what OwnedBy says about the parent.
func askOwnedBy() {
	_, err := sockets.OwnedBy(os.Getppid(), map[uint64]bool{1: true})
	fmt.Println(os.IsPermission(err))
	os.Exit(0)
}

// child is a running role of this test binary.
type child struct {
	cmd  *exec.Cmd
	port uint16
}

func startChild(t *testing.T, role string) child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		require.NoError(t, cmd.Wait())
	})
	var line string
	_, err = fmt.Fscanln(stdout, &line)
	require.NoError(t, err)
	port, err := strconv.ParseUint(line, 10, 16)
	require.NoError(t, err)
	return child{cmd: cmd, port: uint16(port)}
}
