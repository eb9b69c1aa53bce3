package alloc_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/store/storetest"
	"rbeehive/test/skip"
)

// insideVariable is set in the process that has a network namespace of its own.
const insideVariable = "ALLOC_TEST_INSIDE"

// Half of the range was below net.ipv4.ip_unprivileged_port_start, and each spawn failed
// with EACCES on its first port.
func TestPortsThatTheSystemForbids(t *testing.T) {
	if os.Getenv(insideVariable) != "" {
		forbidden(t)
		return
	}
	skip.UnlessRoot(t)
	dir := t.TempDir()
	for path := dir; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		require.NoError(t, os.Chmod(path, 0o777)) // for nobody
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPortsThatTheSystemForbids$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: TestPortsThatTheSystemForbids")
}

// become changes the effective user: all but root's have no capabilities.
func become(t *testing.T, uid int) {
	t.Helper()
	require.NoError(t, syscall.Setresuid(-1, uid, -1))
}

// unprivilegedFrom sets the sysctl of this network namespace.
func unprivilegedFrom(t *testing.T, port int) {
	t.Helper()
	become(t, 0)
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte(strconv.Itoa(port)), 0o600))
	become(t, 65534)
}

func forbidden(t *testing.T) {
	ctx := context.Background()
	unprivilegedFrom(t, 8085)
	t.Cleanup(func() { become(t, 0) })
	for _, policy := range []alloc.Policy{alloc.Lowest, alloc.Sequential} {
		f := &fixture{t: t, store: storetest.Open(t), rng: alloc.Range{First: 8080, Last: 8089}}
		f.Allocator = f.again(func(o *alloc.Options) { o.Policy = policy })
		s, err := f.Tally(ctx)
		require.NoError(t, err)
		require.Equal(t, []int{5, 5, 10}, []int{s.Forbidden, s.Free, s.Total}, "before anybody has wanted one")

		var got []uint16
		for range 5 {
			res, err := f.Acquire(ctx, alloc.Request{})
			require.NoError(t, err)
			require.Empty(t, res.Skipped, "nobody holds them")
			got = append(got, res.Port)
		}
		require.Equal(t, []uint16{8085, 8086, 8087, 8088, 8089}, got)
		_, err = f.Acquire(ctx, alloc.Request{})
		require.ErrorIs(t, err, alloc.ErrExhausted)
		require.EqualError(t, err, "no ports available in 8080-8089; 5 of them forbidden to hive by the system (hivectl doctor says why)")
		_, err = f.Acquire(ctx, alloc.Request{Ports: 6})
		require.ErrorContains(t, err, "no 6 consecutive ports available in 8080-8089; 5 of them forbidden")
		_, err = f.Acquire(ctx, alloc.Request{Port: 8081})
		require.ErrorIs(t, err, alloc.ErrUnavailable)
		require.ErrorContains(t, err, "port 8081 is not available: hive is not permitted to bind ports below 8085 (net.ipv4.ip_unprivileged_port_start); take one from there on, lower that sysctl")

		unprivilegedFrom(t, 8082)
		res, err := f.Acquire(ctx, alloc.Request{})
		require.NoError(t, err)
		require.Equal(t, uint16(8082), res.Port, "what was forbidden is tried before all are said to be in use")
		unprivilegedFrom(t, 8085)
		require.NoError(t, f.Close())
	}
}
