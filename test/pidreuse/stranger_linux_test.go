package pidreuse_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stranger is the main function of a process that hive did not start: it serves
// on the port in args, if there is one, until its standard input says "close",
// has a child in its session if args say so, and writes every signal it gets to
// its standard output.
func stranger(args []string) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	if args[0] != "" {
		l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
		if err != nil {
			fmt.Println("listen:", err)
			os.Exit(1)
		}
		go func() {
			_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Println("asked by", r.UserAgent()) }))
		}()
		go func() {
			_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
			_ = l.Close()
			fmt.Println("closed")
		}()
	}
	if args[1] == "family" {
		child := exec.Command("/proc/self/exe", "", "")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			fmt.Println("start a child:", err)
			os.Exit(1)
		}
	}
	fmt.Println("ready", os.Getpid())
	for s := range signals {
		if s != unix.SIGURG { // the Go runtime sends them to itself
			fmt.Println("signal:", s)
		}
	}
}

// other is a stranger that runs.
type other struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   string // file with what it has printed
	lines int    // how many lines of it are as they should be
}

// impostor starts a stranger that has this PID. Between the write and the fork
// somebody else can get the number, so it is tried until it is hit.
func (s *scene) impostor(pid int, leader bool, args ...string) *other {
	for try := 1; ; try++ {
		o := &other{out: filepath.Join(s.dir, fmt.Sprintf("stranger-%d-%d", pid, try))}
		out, err := os.Create(o.out)
		require.NoError(s, err)
		self, err := os.Executable()
		require.NoError(s, err)
		o.cmd = exec.Command(self, args...)
		o.cmd.Env = []string{roleVar + "=stranger"}
		o.cmd.Stdout, o.cmd.Stderr = out, out
		o.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: leader}
		o.stdin, err = o.cmd.StdinPipe()
		require.NoError(s, err)
		s.numbersFrom(pid - 1)
		require.NoError(s, o.cmd.Start())
		s.numbersFrom(elsewhere)
		require.NoError(s, out.Close())
		if o.pid() == pid {
			return o
		}
		require.NoError(s, o.cmd.Process.Kill())
		_ = o.cmd.Wait() // killed
		require.Less(s, try, 100, "no process gets the number %d", pid)
	}
}

const lastPID = "/proc/sys/kernel/ns_last_pid"

func (o *other) pid() int { return o.cmd.Process.Pid }

// says returns what the stranger and its child have printed.
func (s *scene) says(o *other) []string {
	raw, err := os.ReadFile(o.out)
	require.NoError(s, err)
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}

// awaitReady waits until a stranger, with its child if it has one, is ready.
func (s *scene) awaitReady(o *other, n int) {
	s.eventually("the stranger is ready", func() bool { return len(s.says(o)) == n && strings.Contains(s.says(o)[n-1], "ready") })
	o.lines = n
}

// unharmed checks that a stranger, and its child, live on and have got no signal
// and no request.
func (s *scene) unharmed(who string, o *other) {
	said := s.says(o)
	require.Len(s, said, o.lines, "%s: %q", who, said)
	for _, line := range said {
		pid, err := strconv.Atoi(strings.TrimPrefix(line, "ready "))
		if err != nil {
			require.Equal(s, "closed", line)
			continue
		}
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(s, err, "%s, pid %d", who, pid)
		state := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))[0]
		require.Contains(s, "RSD", state, "%s, pid %d, is stopped or dead", who, pid)
	}
}
