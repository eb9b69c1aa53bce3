//go:build linux

package attack_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Users without a name, a home, or a group that anybody else has. 65534 would not do:
// the kernel also reports it for a user without a number.
const (
	stranger = 54321
	other    = 54322
)

// person is a user of this machine.
type person struct {
	*site
	uid int
}

func (s *site) root() person                           { return person{s, 0} }
func (s *site) stranger() person                       { return person{s, stranger} }
func (s *site) neighbour() person                      { return person{s, other} }
func place() string                                    { return os.Getenv(placeVar) }
func binary(name string) string                        { return filepath.Join(place(), "bin", name) }
func (p person) do(a ask) reply                        { return p.ask(a)[0] }
func (p person) job(op string, f map[string]any) reply { return p.do(operate(op, f)) }

// command is a program that this user runs: one of programs by its name, or any by
// its path. Nobody but root has groups, or can get more rights than the user's.
func (p person) command(name string, args ...string) *exec.Cmd {
	if programs()[name] != nil {
		name = binary(name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
	if p.uid != 0 {
		id := uint32(p.uid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id, Groups: []uint32{}}}
	}
	return cmd
}

// begin starts a command. The mark that setuid bits have no effect is inherited from
// the thread that forks, which ends afterwards.
func (p person) begin(cmd *exec.Cmd) {
	p.Helper()
	if p.uid == 0 {
		require.NoError(p, cmd.Start())
		return
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with this function
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	require.NoError(p, <-started)
}

// run runs a program to its end and returns what it has printed, and its exit code.
func (p person) run(cmd *exec.Cmd) (printed string, code int) {
	p.Helper()
	var out bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &out
	p.begin(cmd)
	_ = cmd.Wait() // the code says it
	return out.String(), cmd.ProcessState.ExitCode()
}

// sh runs a script, which must succeed.
func (p person) sh(script string, args ...string) string {
	p.Helper()
	out, code := p.run(p.command("/bin/sh", append([]string{"-euc", script, "sh"}, args...)...))
	require.Zero(p, code, "%s: %s", script, out)
	return out
}

// ask sends requests, one after the other.
func (p person) ask(asks ...ask) []reply {
	p.Helper()
	in, err := json.Marshal(asks)
	require.NoError(p, err)
	cmd := p.command("asker")
	cmd.Stdin = bytes.NewReader(in)
	out, code := p.run(cmd)
	require.Zero(p, code, out)
	var replies []reply
	require.NoError(p, json.Unmarshal([]byte(out), &replies), out)
	return replies
}

// actor is a program that goes on running.
type actor struct {
	person
	cmd   *exec.Cmd
	stdin io.WriteCloser

	mu     sync.Mutex
	said   []string
	silent bool // nothing more is printed: nobody has its output open
}

// start starts one. It ends with the test.
func (p person) start(cmd *exec.Cmd) *actor {
	p.Helper()
	a := &actor{person: p, cmd: cmd}
	var err error
	a.stdin, err = cmd.StdinPipe()
	require.NoError(p, err)
	r, w, err := os.Pipe()
	require.NoError(p, err)
	cmd.Stdout, cmd.Stderr = w, w
	p.begin(cmd)
	require.NoError(p, w.Close())
	go func() {
		defer r.Close()
		for lines := bufio.NewScanner(r); lines.Scan(); {
			a.mu.Lock()
			a.said = append(a.said, lines.Text())
			a.mu.Unlock()
		}
		a.mu.Lock()
		a.silent = true
		a.mu.Unlock()
	}()
	p.Cleanup(a.end)
	return a
}

// lines is what it has printed until now.
func (a *actor) lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.said)
}

// saidAll is whether lines has all that it will ever print. That it has ended is no sign
// of that: what it printed last may not have been read.
func (a *actor) saidAll() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.silent
}

// awaitLine waits for a line that begins so, and returns the rest of it.
func (a *actor) awaitLine(prefix string) (rest string) {
	a.Helper()
	a.await("the attacker says "+prefix, func() bool {
		all := a.saidAll() // asked first: a line may come between the two
		for _, line := range a.lines() {
			if after, ok := strings.CutPrefix(line, prefix); ok {
				rest = strings.TrimSpace(after)
				return true
			}
		}
		require.False(a, all, "%q", a.lines())
		return false
	})
	return rest
}

// tell writes a line to its standard input.
func (a *actor) tell(line string) {
	a.Helper()
	_, err := io.WriteString(a.stdin, line+"\n")
	require.NoError(a, err)
}

func (a *actor) ended() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, a.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

// end kills it and waits for its end.
func (a *actor) end() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait() // killed
}
