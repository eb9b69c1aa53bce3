//go:build held

package hungmount_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/test/harness"
)

// A process in the middle of an execve that waits for the mount: nobody can read its stat, its
// environment or its links, in any namespace of the machine. So this test has a build tag: it
// is run when no other is.
func TestAProcessThatIsHeldInAnExecve(t *testing.T) { inNamespaces(t, "held") }

func init() {
	roles["held"], roles["victim"] = held, victim
}

// victim opens a file of the mount that is closed on exec, waits, and executes a program.
func victim(at string) {
	if _, err := unix.Open(filepath.Join(at, outputFile), unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("open")
	bufio.NewScanner(os.Stdin).Scan()
	fmt.Println(unix.Exec("/bin/sleep", []string{"sleep", "600"}, nil))
}

func held(binary string) {
	s := newScene()
	s.mounts()
	self, err := os.Executable()
	require.NoError(s, err)
	v := exec.Command(self, s.mount)
	v.Env = append(os.Environ(), roleVar+"=victim")
	tell, err := v.StdinPipe()
	require.NoError(s, err)
	said, err := v.StdoutPipe()
	require.NoError(s, err)
	require.NoError(s, v.Start())
	lines := bufio.NewScanner(said)
	require.True(s, lines.Scan() && lines.Text() == "open", lines.Text())
	s.hang()
	_, err = tell.Write([]byte("go\n"))
	require.NoError(s, err)
	require.True(s, s.said.Scan() && s.said.Text() == saysAsked, "it waits for the close of its file")

	s.hive, err = harness.New(binary, 16, "[{name: healthy, preset: reference, restart: {policy: always, backoff: 100ms}}]", "audit: {interval: 1s}")
	require.NoError(s, err)
	s.within(recovery, "hive serves", func(ctx context.Context) error { return s.hive.Start(ctx) })
	s.workersExit()
	s.within(bound, "an audit ends", func(ctx context.Context) error {
		return s.hive.Call(ctx, http.MethodPost, "/v1/audit", nil, nil)
	})
	s.hive.Kill()
	s.within(recovery, "the next hive serves", func(ctx context.Context) error { return s.hive.Start(ctx) })
	s.within(end, "hive ends", func(context.Context) error { return s.hive.Term() })
	s.exit(0)
}
