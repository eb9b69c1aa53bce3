package packaging_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// systemUnits are what the package has for the system's systemd, by name.
func systemUnits(t *testing.T) map[string]string {
	t.Helper()
	units := map[string]string{}
	for _, name := range []string{"hive.service", "hive.socket", "hive-ipv6.socket"} {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		units[name] = string(raw)
	}
	return units
}

// userUnits are those for the systemd of a user.
func userUnits(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("hive-user.service")
	require.NoError(t, err)
	return map[string]string{"hive.service": string(raw)}
}

// verify runs systemd-analyze verify over a unit as it would be installed among the
// others, but with a program that exists here, and returns what it complains about.
func verify(t *testing.T, manager, unit string, units map[string]string) []string {
	t.Helper()
	analyze := need(t, "systemd-analyze")
	dir := t.TempDir()
	for name, text := range units {
		text = strings.NewReplacer("/usr/bin/hive\n", "/bin/true\n", "/usr/bin/hive check\n", "/bin/true\n").Replace(text)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	cmd := exec.Command(analyze, "verify", manager, filepath.Join(dir, unit))
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "LC_ALL=C")
	out, _ := cmd.CombinedOutput() // older versions exit with 0 whatever they find: the output counts
	var found []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if line == "" || old(t) && newKeys.MatchString(line) {
			continue
		}
		found = append(found, line)
	}
	return found
}

// newKeys are of systemd 254; as the units say, it does without them before.
var newKeys = regexp.MustCompile(`Unknown key.* '?(DelegateSubgroup|RestartSteps|RestartMaxDelaySec)`)

// old reports a systemd that does not know newKeys.
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
	for manager, units := range map[string]map[string]string{"--system": systemUnits(t), "--user": userUnits(t)} {
		for name, text := range units {
			require.Empty(t, verify(t, manager, name, units), "%s %s", manager, name)
			wrong := maps.Clone(units)
			wrong[name] = strings.Replace(text, "\nDocumentation=", "\nDocumentatoin=", 1)
			require.NotEmpty(t, verify(t, manager, name, wrong), "a mistake is not found")
		}
	}
}

// Who may reach hive over its socket, and that its ports are held from before anybody
// else runs until it is stopped.
func TestSocketUnits(t *testing.T) {
	units := systemUnits(t)
	for unit, wanted := range map[string][]string{
		"hive.socket": {
			"ListenStream=/run/hive/hive.sock", "SocketGroup=hive", "SocketMode=0660", "DirectoryMode=0755", "RemoveOnStop=yes",
			"ListenStream=127.0.0.1:7835", "WantedBy=sockets.target",
		},
		"hive-ipv6.socket": {
			"Service=hive.service", "ListenStream=[::1]:7835", "BindIPv6Only=ipv6-only", "FreeBind=yes",
			"ConditionPathExists=/proc/net/if_inet6", "PartOf=hive.socket", "WantedBy=sockets.target",
		},
		"hive.service": {
			"Requires=hive.socket", "Wants=hive-ipv6.socket", "After=hive.socket hive-ipv6.socket",
			"Sockets=hive.socket hive-ipv6.socket", "Also=hive.socket hive-ipv6.socket",
		},
	} {
		for _, want := range wanted {
			require.Contains(t, units[unit], "\n"+want+"\n", unit)
		}
	}
	require.NotContains(t, units["hive.service"], "\nRuntimeDirectory=", "systemd removes it, and the socket in it, whenever hive stops")
}

// Without any of these a stop kills the workers, or their cgroups go.
func TestUnitsKeepTheWorkers(t *testing.T) {
	for unit, text := range map[string]string{"hive.service": systemUnits(t)["hive.service"], "hive-user.service": userUnits(t)["hive.service"]} {
		lines := map[string]bool{}
		for line := range strings.Lines(text) {
			lines[strings.TrimSpace(line)] = true
		}
		for _, want := range []string{"Type=notify", "KillMode=process", "Delegate=yes", "OOMPolicy=continue", "TasksMax=infinity", "Restart=on-failure", "StartLimitIntervalSec=0"} {
			require.True(t, lines[want], "%s: %s", unit, want)
		}
		require.NotContains(t, text, "\nRestartPreventExitStatus=", "a panic and the watchdog end hive with 2, as a wrong configuration does")
		for line := range lines {
			name, _, _ := strings.Cut(line, "=")
			require.NotContains(t, []string{
				"ProtectProc", "ProcSubset", "PrivateTmp", "ProtectSystem", "ProtectHome", "PrivateDevices", "PrivateUsers",
				"ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "ExecStop", "NoNewPrivileges", "DynamicUser", "MemoryDenyWriteExecute",
			}, name, "%s: every worker would have it, too; after a restart in another namespace than hive", unit)
		}
	}
}

// What systemd-analyze finds fault with is at most so much, and each finding is answered:
// the unit says of it why it is so.
func TestExposure(t *testing.T) {
	analyze := need(t, "systemd-analyze")
	file := filepath.Join(t.TempDir(), "hive.service")
	text := systemUnits(t)["hive.service"]
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	const most = "50" // tenths
	args := []string{"security", "--offline=true", "--no-pager", "--threshold=" + most}
	out, err := exec.Command(analyze, append(args, file)...).CombinedOutput()
	require.NoError(t, err, string(out))

	raw, err := exec.Command(analyze, append(args, "--json=short", file)...).Output()
	require.NoError(t, err)
	var findings []struct {
		Name     string
		Exposure *string
	}
	require.NoError(t, json.Unmarshal(raw, &findings))
	require.NotEmpty(t, findings)
	for _, f := range findings {
		if f.Exposure != nil {
			require.True(t, slices.ContainsFunc(subjects(f.Name), func(s string) bool { return strings.Contains(text, s) }),
				"%s has the exposure %s, and the unit does not say why", f.Name, *f.Exposure)
		}
	}
}

// subjects are the settings, capabilities or groups of system calls that a finding is
// about: "User=/DynamicUser=", "CapabilityBoundingSet=~CAP_SYS_(NICE|RESOURCE)".
func subjects(finding string) []string {
	setting, values, ok := strings.Cut(finding, "=~")
	if !ok {
		return strings.Split(setting, "/")
	}
	prefix, alternatives, ok := strings.Cut(strings.TrimSuffix(values, ")"), "(")
	if !ok {
		return []string{values}
	}
	var out []string
	for alternative := range strings.SplitSeq(alternatives, "|") {
		out = append(out, prefix+strings.TrimSuffix(alternative, "*"))
	}
	return out
}
