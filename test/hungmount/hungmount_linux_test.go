// Package hungmount_test runs hive beside a mount that does not answer, as a network file system
// whose server is gone: whoever asks it for anything waits. Programs, directories, files and models
// of worker types are on it, and so is the output of a process that is nobody's.
//
// The file system is this test binary's own, in a mount namespace and a PID namespace of their own:
// nobody else sees it, and with the namespace's init all processes in it end, its server among them,
// which frees those that wait.
package hungmount_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/test/skip"
)

// roleVar says what this binary is when it is not the test.
const roleVar = "HUNGMOUNT_ROLE"

// roles are the main functions of the others, each with one argument.
var roles = map[string]func(string){
	"inside": inside,
	"server": func(at string) { fmt.Println("the file system has ended:", server(at)) },
}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVar)]; role != nil {
		role(os.Args[1])
		return
	}
	os.Exit(m.Run())
}

// exitSkip is how the process inside says that this system cannot do it.
const exitSkip = 77

func TestAMountThatDoesNotAnswer(t *testing.T) { inNamespaces(t, "inside") }

// inNamespaces runs a role, with a hive binary as its argument, as init of namespaces of its own.
func inNamespaces(t *testing.T, role string) {
	t.Helper()
	skip.UnlessRoot(t, "mounting a file system needs root")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		skip.Because(t, "there is no /dev/fuse: "+err.Error())
	}
	hive := filepath.Join(t.TempDir(), "hive")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", hive, "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "go build: %s", out)
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, hive)
	cmd.WaitDelay = 10 * time.Second // whatever still has its output
	cmd.Env = append(os.Environ(), roleVar+"="+role, "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	out, err = cmd.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		skip.Because(t, "a new PID namespace takes CAP_SYS_ADMIN: "+err.Error())
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == exitSkip {
		skip.Because(t, string(out))
	}
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
}

// cannot ends the process inside: this system cannot do it.
func cannot(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	os.Exit(exitSkip)
}
