package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// verify runs systemd-analyze verify over a unit as it would be installed, but with
// a program that exists here, and returns what it complains about.
func verify(t *testing.T, unit, text string) []string {
	t.Helper()
	analyze := need(t, "systemd-analyze")
	dir := t.TempDir()
	file := filepath.Join(dir, "hive.service")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(text, "/usr/bin/hive\n", "/bin/true\n")), 0o600))
	args := []string{"verify", file}
	if unit == "hive-user.service" {
		args = append([]string{"--user"}, args...)
	}
	cmd := exec.Command(analyze, args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "LC_ALL=C")
	out, _ := cmd.CombinedOutput() // older versions exit with 0 whatever they find: the output counts
	var found []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if line == "" || old(t) && strings.Contains(line, "DelegateSubgroup") {
			continue
		}
		found = append(found, line)
	}
	return found
}

// old reports a systemd that does not know DelegateSubgroup, as the unit says.
func old(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command(need(t, "systemd-analyze"), "--version").Output()
	require.NoError(t, err)
	var version int
	_, err = fmt.Sscanf(string(out), "systemd %d", &version)
	require.NoError(t, err, string(out))
	return version < 254
}

func TestUnitsAreValid(t *testing.T) {
	for _, unit := range []string{"hive.service", "hive-user.service"} {
		raw, err := os.ReadFile(unit)
		require.NoError(t, err)
		require.Empty(t, verify(t, unit, string(raw)), unit)
		wrong := strings.Replace(string(raw), "KillMode=", "KilMode=", 1)
		require.NotEmpty(t, verify(t, unit, wrong), "a mistake is not found")
	}
}

// Without any of these a stop kills the workers, or their cgroups go.
func TestUnitsKeepTheWorkers(t *testing.T) {
	for _, unit := range []string{"hive.service", "hive-user.service"} {
		raw, err := os.ReadFile(unit)
		require.NoError(t, err)
		lines := map[string]bool{}
		for line := range strings.Lines(string(raw)) {
			lines[strings.TrimSpace(line)] = true
		}
		for _, want := range []string{"Type=notify", "KillMode=process", "Delegate=yes", "OOMPolicy=continue", "TasksMax=infinity", "Restart=on-failure"} {
			require.True(t, lines[want], "%s: %s", unit, want)
		}
		require.NotContains(t, string(raw), "\nRestartPreventExitStatus=", "a panic and the watchdog end hive with 2, as a wrong configuration does")
		for line := range lines {
			name, _, _ := strings.Cut(line, "=")
			require.NotContains(t, []string{
				"ProtectProc", "ProcSubset", "PrivateTmp", "ProtectSystem", "ProtectHome", "PrivateDevices", "PrivateMounts",
				"ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "ExecStop", "ExecStopPost", "NoNewPrivileges", "DynamicUser",
			}, name, "%s: every worker would have it, too; after a restart in another namespace than hive", unit)
		}
	}
}
