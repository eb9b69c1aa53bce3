// Package pidreuse_test reuses PIDs for real: the processes that hive has recorded end,
// and strangers get their numbers, one of them the session and the port of a worker too.
// hive must neither take them for its own nor signal them.
//
// A number comes back after tens of thousands of forks, or at once after a write of
// the one before it to /proc/sys/kernel/ns_last_pid. That is done in a new PID
// namespace, whose init is this test binary: nobody else's numbers are touched,
// and all processes in it end with it.
package pidreuse_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/test/skip"
)

// roleVar says what this binary is when it is not the test.
const roleVar = "PIDREUSE_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "inside":
		inside(os.Args[1:])
	case "stranger":
		stranger(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
}

// exitSkip is how the process inside says that this system cannot do it.
const exitSkip = 77

func TestStrangersWithRecordedPIDs(t *testing.T) {
	hive := filepath.Join(t.TempDir(), "hive")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", hive, "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "go build: %s", out)
	for name, proof := range map[string]string{"by the pidfd's inode": "inode", "by the start time": "start"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			self, err := os.Executable()
			require.NoError(t, err)
			cmd := exec.CommandContext(t.Context(), self, hive, proof)
			cmd.Env = append(os.Environ(), roleVar+"=inside", "TMPDIR="+t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, fs.ErrPermission) {
				skip.Because(t, "a new PID namespace takes CAP_SYS_ADMIN: "+err.Error())
			}
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == exitSkip {
				skip.Because(t, string(out))
			}
			require.NoError(t, err, "%s", out)
			t.Logf("%s", out)
		})
	}
}

// cannot ends the process inside: this system cannot do it.
func cannot(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	os.Exit(exitSkip)
}
