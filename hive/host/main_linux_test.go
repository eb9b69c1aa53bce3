package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// timeout is for what should take milliseconds, on a loaded machine.
const timeout = 20 * time.Second

// modeVar makes the test binary a stand-in for a hive in another place.
const modeVar = "HOSTTEST_MODE"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(modeVar); mode {
	case "":
		goleak.VerifyTestMain(m)
	case "report": // args: see report
		os.Exit(report(os.Args[1:]))
	case "impatient": // args: see prepare
		os.Exit(impatient(os.Args[1:]))
	case "local-ports": // args are the two sysctls
		os.Exit(localPorts(os.Args[1:]))
	default:
		fmt.Fprintln(os.Stderr, "unknown mode", mode)
		os.Exit(2)
	}
}

// standIn runs the test binary in a mode, in a session of its own.
func standIn(mode string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), modeVar+"="+mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// exitOn is the exit code of a stand-in.
func exitOn(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
