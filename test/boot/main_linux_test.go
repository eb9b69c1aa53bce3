// Package boot_test tests the Debian package where it belongs: a machine whose
// PID 1 is systemd. It boots this machine's own systemd in new namespaces, over a copy of
// its file system that is thrown away; nothing is downloaded, and nothing outside is changed.
package boot_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// roleVar says that this binary is to become the machine's PID 1.
const roleVar = "BOOT_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == "init" {
		err := becomeInit(os.Args[1], os.Args[2])
		fmt.Println("this system cannot boot another:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// build makes what the machine has in /opt/hive-boot: two versions of the package, and
// the probe.
func build(t *testing.T) string {
	t.Helper()
	dir, bin := t.TempDir(), t.TempDir()
	for _, version := range []string{"1.0.0", "1.0.1"} {
		command(t, nil, "make", "-C", "../..", "package", "BIN="+bin, "DIST="+filepath.Join(dir, version), "PACKAGE_VERSION="+version)
	}
	command(t, []string{"CGO_ENABLED=0"}, "go", "build", "-o", filepath.Join(dir, "probe"), "rbeehive/test/boot/probe")
	if runtime.GOARCH == "amd64" {
		command(t, []string{"CGO_ENABLED=0", "GOARCH=386"}, "go", "build", "-o", filepath.Join(dir, "probe32"), "rbeehive/test/boot/probe")
	}
	return dir
}

func command(t *testing.T, env []string, argv ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%v: %s", argv, out)
}
