package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/client"
	"rbeehive/test/skip"
)

// roleEnv makes this test binary one of the programs that the tests start.
const roleEnv = "HIVE_TEST_ROLE"

// strangerUID is nobody's of this machine.
const strangerUID = 54321

func TestMain(m *testing.M) {
	switch role, rest, _ := strings.Cut(os.Getenv(roleEnv), " "); role {
	case "":
		goleak.VerifyTestMain(m)
	case "squat":
		squat(rest)
	case "ask":
		ask(rest)
	}
	os.Exit(2)
}

// squat listens on "NETWORK ADDR" and prints what it is sent, until its standard
// input ends.
func squat(where string) {
	network, addr, _ := strings.Cut(where, " ")
	ln, err := net.Listen(network, addr)
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		conn, err := ln.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer conn.Close()
			for in := bufio.NewScanner(conn); in.Scan() && in.Text() != ""; {
				fmt.Println(in.Text())
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 24\r\nConnection: close\r\n\r\n{\"hive_id\":\"a stranger\"}")
		}()
	}
}

// ask asks the first hive of some addresses, with a token, and prints what came of it.
func ask(addrs string) {
	c, err := client.New(client.Options{Addrs: strings.Fields(addrs), Token: "s3cret"})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	reply, err := c.Hive(ctx)
	fmt.Printf("%s\n%s\n%s\n%v\n%v\n", c.Addr(), c.Denied(), reply.Value.HiveID, err, errors.Is(err, client.ErrProxy))
	os.Exit(0)
}

// asStranger is a command of this test binary in another role, as another user.
func asStranger(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	needRoot(t)
	cmd := exec.Command("/proc/self/exe")
	// A race-enabled program would wait a second at its end.
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: strangerUID, Gid: strangerUID}}
	cmd.Stderr = os.Stderr
	return cmd
}

// squatter is a program of another user.
type squatter struct {
	pid  int
	addr string
	end  func() string // returns what it was sent
}

func startSquatter(t *testing.T, network, addr string) squatter {
	t.Helper()
	cmd := asStranger(t, "squat "+network+" "+addr)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	s := squatter{pid: cmd.Process.Pid, addr: strings.TrimSpace(line)}
	ended := false
	s.end = func() string {
		ended = true
		require.NoError(t, stdin.Close())
		seen, err := io.ReadAll(out)
		require.NoError(t, err)
		require.NoError(t, cmd.Wait())
		return string(seen)
	}
	t.Cleanup(func() {
		if !ended {
			s.end()
		}
	})
	return s
}

func needRoot(t *testing.T) {
	t.Helper()
	skip.UnlessRoot(t, "needs root to be another user")
}

// asUser runs f with the file system uid of another user, whose the sockets that it
// makes then are (setfsuid(2)).
func asUser(t *testing.T, uid int, f func()) {
	t.Helper()
	needRoot(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
		f()
	}()
	<-done
}
