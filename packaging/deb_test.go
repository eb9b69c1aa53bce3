package packaging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/test/harness"
	testprogram "rbeehive/test/program"
	"rbeehive/test/skip"
)

// build makes the package by the Makefile, and returns its path.
func build(t *testing.T, version string) string {
	t.Helper()
	need(t, "dpkg-deb")
	// go test remembers results by the files that the test itself has read; make and
	// nfpm are not seen.
	inputs, err := filepath.Glob("*")
	require.NoError(t, err)
	for _, file := range append(inputs, "../Makefile", "../tools/nfpm.mod") {
		_, err := os.ReadFile(file)
		require.NoError(t, err)
	}
	dir := t.TempDir()
	cmd := exec.Command(need(t, "make"), "-C", "..", "package", "BIN="+dir+"/bin", "DIST="+dir, "PACKAGE_VERSION="+version)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	found, err := filepath.Glob(dir + "/*.deb")
	require.NoError(t, err)
	require.Len(t, found, 1, string(out))
	return found[0]
}

func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(need(t, program), args...).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

func TestPackage(t *testing.T) {
	if testing.Short() {
		t.Skip("long: builds two packages, and installs them")
	}
	deb := build(t, "1.0.0")
	t.Run("contents", func(t *testing.T) { contents(t, deb) })
	t.Run("runs", func(t *testing.T) { runs(t, deb) })
	t.Run("scripts", func(t *testing.T) { scripts(t, deb, build(t, "1.0.1")) })
	t.Run("without systemd", func(t *testing.T) { withoutSystemd(t, deb) })
}

func contents(t *testing.T, deb string) {
	list := output(t, "dpkg-deb", "--contents", deb)
	modes := map[string]string{}
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		require.Equal(t, "root/root", f[1], line)
		modes[f[5]] = f[0]
	}
	for file, mode := range map[string]string{
		"./usr/bin/hive":                                     "-rwxr-xr-x",
		"./usr/bin/hivectl":                                  "-rwxr-xr-x",
		"./etc/hive/hive.yaml":                               "-rw-r-----",
		"./usr/lib/systemd/system/hive.service":              "-rw-r--r--",
		"./usr/lib/systemd/system/hive.socket":               "-rw-r--r--",
		"./usr/lib/systemd/system/hive-ipv6.socket":          "-rw-r--r--",
		"./usr/lib/sysusers.d/rbeehive.conf":                 "-rw-r--r--",
		"./usr/lib/systemd/user/hive.service":                "-rw-r--r--",
		"./usr/share/bash-completion/completions/hivectl":    "-rw-r--r--",
		"./usr/share/zsh/vendor-completions/_hivectl":        "-rw-r--r--",
		"./usr/share/fish/vendor_completions.d/hivectl.fish": "-rw-r--r--",
		"./usr/share/doc/rbeehive/copyright":                 "-rw-r--r--",
		"./usr/share/doc/rbeehive/install.md":                "-rw-r--r--",
		"./usr/share/doc/rbeehive/examples/supervisord.yaml": "-rw-r--r--",
	} {
		require.Equal(t, mode, modes[file], "%s in\n%s", file, list)
	}
	require.Equal(t, "rbeehive", strings.TrimSpace(output(t, "dpkg-deb", "-f", deb, "Package")))
	require.Equal(t, "1.0.0", strings.TrimSpace(output(t, "dpkg-deb", "-f", deb, "Version")))
	control := t.TempDir()
	output(t, "dpkg-deb", "-e", deb, control)
	conffiles, err := os.ReadFile(filepath.Join(control, "conffiles"))
	require.NoError(t, err)
	require.Equal(t, "/etc/hive/hive.yaml", strings.TrimSpace(string(conffiles)))
}

// What was unpacked is a hive that starts a worker, with the configuration that is in the
// package, but for the place of its socket: root needs that, or a token.
func runs(t *testing.T, deb string) {
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, root)
	ctx := context.Background()
	socket := filepath.Join(t.TempDir(), "sock")
	config := filepath.Join(root, "etc/hive/hive.yaml")
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	packaged := `socket: {path: /run/hive/hive.sock, mode: "0660", group: hive}`
	require.Contains(t, string(text), "\n"+packaged+"\n")
	ours := fmt.Sprintf(`socket: {path: %q, mode: "0660", group: "%d"}`, socket, os.Getegid())
	require.NoError(t, os.WriteFile(config, []byte(strings.Replace(string(text), packaged, ours, 1)), 0o600))

	hive, err := harness.NewFrom(filepath.Join(root, "usr/bin/hive"), 4, config, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hive.Close(nil)) })
	require.NoError(t, hive.Start(ctx))
	require.Equal(t, "unauthorized", harness.Code(hive.Get(ctx, "/v1/hive", nil)), "over TCP the user who runs hive is not recognised")
	info, err := os.Stat(socket)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o660), info.Mode().Perm())

	hivectl := filepath.Join(root, "usr/bin/hivectl")
	flags := []string{"--addr", "unix:" + socket}
	var job struct{ State string }
	require.NoError(t, json.Unmarshal([]byte(output(t, hivectl, append(flags, "up", "cpu", "-o", "json")...)), &job))
	require.Equal(t, "succeeded", job.State)
	output(t, hivectl, append(flags, "down")...)
	require.NoError(t, hive.Term())
}

// scripts installs, upgrades and removes the package below a directory, with a
// systemctl that writes down what it was asked for.
func scripts(t *testing.T, first, second string) {
	skip.UnlessRoot(t, "only root can install packages")
	m := newMachine(t)
	m.dpkg("--install", first)
	require.Equal(t, []string{"daemon-reload"}, m.asked(), "nothing is started or enabled unasked")
	m.hasUsers()

	config := filepath.Join(m.root, "etc/hive/hive.yaml")
	require.NoError(t, os.WriteFile(config, []byte("auth: none\n"), 0o600))
	m.dpkg("--install", second)
	require.Equal(t, []string{
		"daemon-reload", "--quiet is-enabled hive.service", "--quiet enable hive.service", "try-restart hive.service",
	}, m.asked(), "no stop: the workers go on, and hive until the new one is there")
	m.hasUsers()
	kept, err := os.ReadFile(config)
	require.NoError(t, err)
	require.Equal(t, "auth: none\n", string(kept), "the owner's file stays")

	m.fails("try-restart")
	m.dpkg("--install", first) // a downgrade; a hive that does not start again does not fail it
	require.Contains(t, m.asked(), "try-restart hive.service")
	m.fails("--quiet") // is-enabled: hive is started by hand
	m.dpkg("--install", second)
	require.Equal(t, []string{"daemon-reload", "--quiet is-enabled hive.service", "try-restart hive.service"}, m.asked())

	state := filepath.Join(m.root, "var/lib/hive")
	require.NoError(t, os.MkdirAll(state, 0o700))
	m.dpkg("--remove", "rbeehive")
	require.Equal(t, []string{"disable --now hive.service hive.socket hive-ipv6.socket", "daemon-reload"}, m.asked())
	m.dpkg("--purge", "rbeehive")
	require.NoFileExists(t, config)
	require.DirExists(t, state)
	m.hasUsers()
}

// Where there is no systemd the users are made by other means. The whole is the same.
func withoutSystemd(t *testing.T, deb string) {
	skip.UnlessRoot(t, "only root can install packages")
	m := newMachine(t)
	require.NoError(t, os.RemoveAll(filepath.Join(m.root, "run/systemd")))
	m.path = m.without("systemd-sysusers")
	m.dpkg("--install", deb)
	require.NoFileExists(t, filepath.Join(m.bin, "asked"))
	m.hasUsers()
	m.dpkg("--purge", "rbeehive")
	m.hasUsers()
}

// machine is a directory that dpkg takes for the root of one.
type machine struct {
	t         *testing.T
	root, bin string
	path      string // where its scripts find programs
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), bin: t.TempDir(), path: "/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, dir := range []string{"run/systemd/system", "var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"} {
		require.NoError(t, os.MkdirAll(filepath.Join(m.root, dir), 0o755))
	}
	for _, file := range []string{"status", "available"} {
		require.NoError(t, os.WriteFile(filepath.Join(m.root, "var/lib/dpkg", file), nil, 0o600))
	}
	for file, text := range map[string]string{"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\nvideo:x:4444:\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(m.root, "etc", file), []byte(text), 0o644))
	}
	m.fails("nothing")
	return m
}

// fails makes systemctl fail at a command.
func (m *machine) fails(at string) {
	m.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s/asked\n[ \"$1\" != %s ]\n", m.bin, at)
	require.NoError(m.t, testprogram.Write(filepath.Join(m.bin, "systemctl"), []byte(script), 0o700))
}

// asked is what systemctl was asked for since the last time.
func (m *machine) asked() []string {
	m.t.Helper()
	file := filepath.Join(m.bin, "asked")
	raw, err := os.ReadFile(file)
	require.NoError(m.t, err)
	require.NoError(m.t, os.Remove(file))
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}

func (m *machine) dpkg(args ...string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args = append([]string{"--root=" + m.root, "--force-script-chrootless", "--force-confold", "--log=" + m.bin + "/log"}, args...)
	cmd := exec.CommandContext(ctx, need(m.t, "dpkg"), args...)
	cmd.Env = append(os.Environ(), "PATH="+m.bin+":"+m.path)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(m.t, cmd.Run(), "dpkg %v: %s", args, &out)
}

// without returns a directory with links to all programs of this machine but one.
func (m *machine) without(program string) string {
	m.t.Helper()
	dir := m.t.TempDir()
	for _, from := range []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin"} {
		entries, err := os.ReadDir(from)
		require.NoError(m.t, err)
		for _, e := range entries {
			if e.Name() != program {
				_ = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())) // /bin may be /usr/bin
			}
		}
	}
	return dir
}

// line finds the line of a user or group in a file of /etc.
func (m *machine) line(file, name string) []string {
	m.t.Helper()
	raw, err := os.ReadFile(filepath.Join(m.root, "etc", file))
	require.NoError(m.t, err)
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); fields[0] == name {
			return fields
		}
	}
	return nil
}

// hasUsers checks the user of the workers, in the groups that there are, and the group
// of hive's administrators, in which nobody is.
func (m *machine) hasUsers() {
	m.t.Helper()
	worker := m.line("passwd", "hive-worker")
	require.Len(m.t, worker, 7)
	require.Equal(m.t, []string{"/var/lib/hive-worker", "/usr/sbin/nologin"}, worker[5:])
	require.Equal(m.t, worker[3], m.line("group", "hive-worker")[2])
	require.Equal(m.t, "hive-worker", m.line("group", "video")[3])
	require.Nil(m.t, m.line("group", "render"), "a group of devices is not made")
	admins := m.line("group", "hive")
	require.Len(m.t, admins, 4)
	require.Empty(m.t, admins[3])
	require.NotEqual(m.t, admins[2], worker[3])

	info, err := os.Stat(filepath.Join(m.root, "var/lib/hive-worker"))
	require.NoError(m.t, err)
	require.Equal(m.t, os.FileMode(0o750), info.Mode().Perm())
	owner := info.Sys().(*syscall.Stat_t)
	require.Equal(m.t, worker[2:4], []string{fmt.Sprint(owner.Uid), fmt.Sprint(owner.Gid)})
}
