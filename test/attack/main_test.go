//go:build linux

// Package attack_test attacks hive as somebody without the right to do it: another user
// of the machine, a web page, a client in the network, a worker. Each subtest is named
// after what the attacker wants, and checks the outcome (whose file is there, who has
// the port, what became of the worker), not the text of an error. An attack that failed
// because something else is broken would pass for the wrong reason; so the same action
// by somebody who has the right is seen to succeed first.
//
// The binaries are the real ones. Everything runs in network, PID and mount namespaces
// of its own, so that hive has its default port and range, an attacker finds only the
// processes of the test, and all of them end with it. That takes root.
package attack_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	testprogram "rbeehive/test/program"
)

// levelVar says what this binary is: first nothing, then init of the namespaces,
// then the tests.
const levelVar = "ATTACK_LEVEL"

// placeVar is the directory with the binaries, where all else is made too.
const placeVar = "ATTACK_PLACE"

// cannot is why the tests cannot run here; empty: they can.
var cannot string

func TestMain(m *testing.M) {
	if program := programs()[filepath.Base(os.Args[0])]; program != nil {
		os.Exit(program(os.Args[1:]))
	}
	var code int
	var err error
	switch os.Getenv(levelVar) {
	case "":
		code, err = outside(m)
	case "init":
		code, err = asInit()
	default:
		code = m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		code = 1
	}
	os.Exit(code)
}

// programs are what this binary is under other names than its own.
func programs() map[string]func(args []string) int {
	return map[string]func([]string) int{
		"asker": asker, "server": server, "squatter": squatter, "leaver": leaver, "nginx": nginx, "crowd": crowd, "namer": namer,
	}
}

// outside builds the binaries and runs the tests in namespaces, or where that cannot
// be done here, so that each says why it is skipped.
func outside(m *testing.M) (code int, err error) {
	if os.Geteuid() != 0 {
		cannot = "namespaces and other users take root"
		return m.Run(), nil
	}
	place, err := os.MkdirTemp("", "hive-attack-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(place)) }()
	if err := build(place); err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), levelVar+"=init", placeVar+"="+place, "TMPDIR="+place, "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // Pdeathsig is about the thread
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	group, dropGroup := newCgroup()
	defer dropGroup()
	if group != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitCannot, errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOSYS):
		cannot = "no namespaces can be made: " + err.Error()
		return m.Run(), nil
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return 0, err
}

// build puts hive, hivectl and the attacker, who is this binary, where everybody can
// run them.
func build(place string) error {
	if err := os.Chmod(place, 0o755); err != nil {
		return err
	}
	bin := filepath.Join(place, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", bin, "rbeehive/cmd/hive", "rbeehive/cmd/hivectl")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build hive: %w\n%s", err, out)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	for name := range programs() {
		if err := os.Symlink("attacker", filepath.Join(bin, name)); err != nil {
			return err
		}
	}
	return testprogram.Write(filepath.Join(bin, "attacker"), self, 0o755)
}

// exitCannot is how init says that this system does not let it.
const exitCannot = 77

// asInit is process 1 of the namespaces: it prepares them, runs the tests, and reaps
// what nobody else does. With its end all others end.
func asInit() (int, error) {
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		return exitCannot, nil
	}
	if err := os.Setenv(levelVar, "tests"); err != nil {
		return 0, err
	}
	tests, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 0, err
	}
	for {
		var status syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &status, 0, nil); {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case pid == tests && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == tests && status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// furnish mounts the /proc of the new namespace, where nobody else sees it, and
// brings its loopback device up.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
