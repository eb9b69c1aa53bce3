package host_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/host"
	"rbeehive/test/program"
)

func TestUnitOf(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/hive.service\n":                                                "hive.service",
		"0::/system.slice/hive.service/main\n":                                           "hive.service",
		"0::/system.slice/_cpu.service\n":                                                "cpu.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/hive.service\n":      "hive.service of a user",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-1.scope\n": "app-gnome-1.scope of a user",
		"0::/user.slice/user-1000.slice/session-2.scope\n":                               "session-2.scope",
		"0::/\n": "",
		"":       "",
		"8:pids:/x\n1:name=systemd:/system.slice/old.service\n0::/system.slice/new.service\n": "old.service",
		"8:pids:/system.slice/old.service\n0::/\n":                                            "",
	} {
		name, user := host.UnitOf(text)
		if user {
			name += " of a user"
		}
		require.Equal(t, want, name, text)
	}
}

// systemctl is a stand-in that is found first.
func systemctl(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, program.Write(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	t.Setenv("PATH", dir)
}

// environ is what systemctl gets: a manager is found by it, and hive's own secrets are
// not in it.
var environ = []string{"DBUS_SESSION_BUS_ADDRESS=unix:path=/bus", "LC_ALL=de_DE"}

func TestShowUnit(t *testing.T) {
	systemctl(t, `echo "$@" >&2; [ "$*" = "show --no-pager -p LoadState,KillMode,Delegate -- hive.service" ] || exit 3
[ "$LC_ALL $DBUS_SESSION_BUS_ADDRESS $HIVE_TOKEN" = "C unix:path=/bus " ] || exit 4
echo KillMode=process; echo Delegate=yes; echo LoadState=loaded`)
	t.Setenv("HIVE_TOKEN", "secret")
	got, err := host.ShowUnit(t.Context(), "hive.service", false, environ)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"KillMode": "process", "Delegate": "yes", "LoadState": "loaded"}, got)
	_, err = host.ShowUnit(t.Context(), "hive.service", true, environ)
	require.EqualError(t, err, "systemctl: exit status 3: --user show --no-pager -p LoadState,KillMode,Delegate -- hive.service")
}

func TestShowUnitFails(t *testing.T) {
	for script, want := range map[string]string{
		"echo LoadState=not-found; echo KillMode=control-group": "systemctl does not know hive.service",
		"echo Failed to connect to bus >&2; exit 1":             "systemctl: exit status 1: Failed to connect to bus",
		"exec /bin/sleep 600":                                   "systemctl did not answer within 2s",
	} {
		systemctl(t, script)
		_, err := host.ShowUnit(t.Context(), "hive.service", false, environ)
		require.EqualError(t, err, want)
	}
	t.Setenv("PATH", t.TempDir())
	_, err := host.ShowUnit(t.Context(), "hive.service", false, environ)
	require.EqualError(t, err, "systemctl is not there")
}
