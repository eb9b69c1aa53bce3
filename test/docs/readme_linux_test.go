package docs_test

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/test/skip"
)

// ownNetwork is set for the test as a child that has a network of its own.
const ownNetwork = "HIVE_TEST_OWN_NETWORK"

// notTyped are commands of the README that the test does not type, and why.
var notTyped = map[string]string{
	"make build": "the test has built both programs, and there is no Makefile where it types",
}

// TestReadmeAndTourAsOneSession types the README and then the tour, which goes on from
// there, into one shell, with the ports and the directory that they name: what the README
// starts and does not stop is in the way of the tour. The network and /var/lib are the
// test's own.
func TestReadmeAndTourAsOneSession(t *testing.T) {
	if testing.Short() {
		t.Skip("builds hive, and takes twenty seconds")
	}
	// Read here, too: Go caches what a test has found until a file changes that it has read itself.
	readme, tour := document(t, "README.md"), document(t, "docs/tour.md")
	if os.Getenv(ownNetwork) == "" {
		skip.UnlessRoot(t, "a network and a /var/lib of its own need root")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), ownNetwork+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.Process == nil {
			skip.Because(t, "no new network and mount namespaces here:", err)
		}
		require.NoError(t, err, "%s", out)
		return
	}
	needs(t)
	loopback(t)
	r := buildReader(t)
	who, err := user.Current()
	require.NoError(t, err)
	lib := filepath.Join(r.dir, "lib")
	require.NoError(t, os.Mkdir(lib, 0o700))
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(t, unix.Mount(lib, "/var/lib", "", unix.MS_BIND, ""))
	r.start("HIVE_WORKER_USER=" + who.Uid)
	for _, port := range []string{"8080", "8081", "8082", "9999", "7835", "1918", "1919", "1920"} {
		r.fixed[port] = true
	}

	require.NotRegexp(t, regexp.MustCompile(`(?m)^    \S`), readme, "what is to be typed is in a block of the console, which is tried")
	typed := map[string]bool{}
	for _, s := range steps(readme) {
		typed[s.command] = true
		if notTyped[s.command] == "" {
			r.do(s)
		}
	}
	require.Greater(t, len(r.ran), 5)
	for command := range notTyped {
		require.True(t, typed[command], "the README has no %q any more", command)
	}
	require.Eventually(t, func() bool { return len(processesIn(r.dir, r.shell.Process.Pid)) == 0 }, timeout, 10*time.Millisecond,
		"the README leaves processes behind")

	for _, s := range steps(tour) {
		r.do(s)
	}
	require.Eventually(t, func() bool { return len(processesIn(r.dir, r.shell.Process.Pid)) == 0 }, timeout, 10*time.Millisecond,
		"the tour leaves processes behind")
}

func document(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(raw)
}

// loopback brings up the loopback of this process's network.
func loopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	require.NoError(t, err)
	lo.SetUint16(unix.IFF_UP)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}
