package packaging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/test/yard"
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
	deb := build(t, "1.0.0")
	t.Run("contents", func(t *testing.T) { contents(t, deb) })
	t.Run("runs", func(t *testing.T) { runs(t, deb) })
	t.Run("scripts", func(t *testing.T) { scripts(t, deb, build(t, "1.0.1")) })
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

// What was unpacked is a hive that starts a worker, with the configuration that is
// in the package: it asks for a token.
func runs(t *testing.T, deb string) {
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, root)
	ctx := context.Background()
	y, err := yard.NewFrom(filepath.Join(root, "usr/bin/hive"), 4, filepath.Join(root, "etc/hive/hive.yaml"), "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, y.Clear()) })
	h, err := y.Start(ctx)
	require.NoError(t, err)
	t.Cleanup(h.Kill)
	status, err := h.Get(ctx, "/v1/hive", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)

	hivectl := filepath.Join(root, "usr/bin/hivectl")
	flags := []string{"--addr", "http://" + y.API, "--token-file", filepath.Join(y.Dir, "data", "token")}
	var job struct{ State string }
	require.NoError(t, json.Unmarshal([]byte(output(t, hivectl, append(flags, "up", "cpu", "-o", "json")...)), &job))
	require.Equal(t, "succeeded", job.State)
	output(t, hivectl, append(flags, "down")...)
	require.NoError(t, h.Term())
}

// scripts installs, upgrades and removes the package below a directory, with a
// systemctl that writes down what it was asked for.
func scripts(t *testing.T, first, second string) {
	if os.Geteuid() != 0 {
		skip(t, "only root can install packages")
	}
	m := newMachine(t)
	m.dpkg("--install", first)
	require.Equal(t, []string{"daemon-reload"}, m.asked(), "nothing is started or enabled unasked")

	config := filepath.Join(m.root, "etc/hive/hive.yaml")
	require.NoError(t, os.WriteFile(config, []byte("auth: none\n"), 0o600))
	m.dpkg("--install", second)
	require.Equal(t, []string{"daemon-reload", "try-restart hive.service"}, m.asked(), "no stop: the workers go on, and hive until the new one is there")
	kept, err := os.ReadFile(config)
	require.NoError(t, err)
	require.Equal(t, "auth: none\n", string(kept), "the owner's file stays")

	m.fails("try-restart")
	m.dpkg("--install", first) // a downgrade; a hive that does not start again does not fail it
	require.Equal(t, []string{"daemon-reload", "try-restart hive.service"}, m.asked())

	state := filepath.Join(m.root, "var/lib/hive")
	require.NoError(t, os.MkdirAll(state, 0o700))
	m.dpkg("--remove", "rbeehive")
	require.Equal(t, []string{"disable --now hive.service", "daemon-reload"}, m.asked())
	m.dpkg("--purge", "rbeehive")
	require.NoFileExists(t, config)
	require.DirExists(t, state)
}

// machine is a directory that dpkg takes for the root of one.
type machine struct {
	t         *testing.T
	root, bin string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), bin: t.TempDir()}
	for _, dir := range []string{"run/systemd/system", "var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		require.NoError(t, os.MkdirAll(filepath.Join(m.root, dir), 0o755))
	}
	for _, file := range []string{"status", "available"} {
		require.NoError(t, os.WriteFile(filepath.Join(m.root, "var/lib/dpkg", file), nil, 0o600))
	}
	m.fails("nothing")
	return m
}

// fails makes systemctl fail at a command.
func (m *machine) fails(at string) {
	m.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s/asked\n[ \"$1\" != %s ]\n", m.bin, at)
	require.NoError(m.t, os.WriteFile(filepath.Join(m.bin, "systemctl"), []byte(script), 0o700))
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
	cmd.Env = append(os.Environ(), "PATH="+m.bin+":/usr/sbin:/usr/bin:/sbin:/bin")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(m.t, cmd.Run(), "dpkg %v: %s", args, &out)
}
