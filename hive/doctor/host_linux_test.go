package doctor_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/doctor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the machine is, each fact with a value or an error, is enough for every check.
func TestReadHost(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	host := doctor.ReadHost(t.Context())
	require.Less(t, time.Since(begun), 20*time.Second, "it takes 2 s at most, on a machine that is not busy")
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(release)), host.Kernel)
	require.NoError(t, host.Ptrace.Err)
	require.NoError(t, host.LocalPorts.Err)
	require.NotZero(t, host.LocalPorts.Value.Range.Len())
	require.NoError(t, host.Descriptors.Err)
	require.NotZero(t, host.Descriptors.Value.Used)
	require.GreaterOrEqual(t, host.Descriptors.Value.Max, host.Descriptors.Value.Used)
	if host.Hiding.Err == nil {
		require.NotEmpty(t, host.Hiding.Value.Mode)
	}
	if host.Init.Err == nil {
		require.NotEmpty(t, host.Init.Value.Program)
	}

	f := healthy()
	f.Host = host
	complete(t, doctor.Check(f))
}
