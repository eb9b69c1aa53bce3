package proc_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
)

// systemd's RestrictNamespaces= answers clone3 with ENOSYS, as container engines do: its
// flags cannot be filtered. The packaged hive runs so, and its workers had no cgroups.
func TestLeafWithoutClone3(t *testing.T) {
	spec := withCgroup(t, newSpec(t, "exit", "0"))
	cmd := exec.Command(self(t), spec.StateID, spec.WorkerID)
	cmd.Env = append(os.Environ(), modeVar+"=without-clone3")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	recorded, actual, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
	require.True(t, ok, string(out))
	require.Equal(t, spec.WorkerID, path.Base(recorded))
	// The mount may show a part of the hierarchy only.
	require.True(t, strings.HasSuffix(actual, path.Join(path.Base(path.Dir(recorded)), spec.WorkerID)), "recorded %s, it is in %s", recorded, actual)
}

// withoutClone3 starts a child, and prints its recorded cgroup and the one it is in
// before anything of the program runs.
func withoutClone3(args []string) int {
	if err := startWithoutClone3(args[0], args[1]); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func startWithoutClone3(stateID, workerID string) error {
	if err := denyClone3(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "clone3-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	g, err := proc.Start(proc.Spec{
		Argv: []string{os.Args[0], "0"}, Env: []string{modeVar + "=exit"}, Log: filepath.Join(dir, "log"),
		StateID: stateID, LeaseID: "lease", WorkerID: workerID, Cgroup: workerID,
	})
	if err != nil {
		return err
	}
	defer g.Abort()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", g.Identity().PID))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if actual, ok := strings.CutPrefix(line, "0::"); ok {
			fmt.Print(g.Cgroup(), " ", actual)
		}
	}
	return nil
}

// denyClone3 has all threads of this process get ENOSYS for clone3.
func denyClone3() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE3, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if e != 0 {
		return fmt.Errorf("set the filter: %w", e)
	}
	if _, _, e := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0); !errors.Is(e, unix.ENOSYS) {
		return fmt.Errorf("clone3: %w, want ENOSYS", e)
	}
	return nil
}
