//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCutAndKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("long: downloads 64 MiB through 20 cuts and 5 kills")
	}
	hive := filepath.Join(t.TempDir(), "hive")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", hive, "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, download(t.Context(), options{hive: hive, size: 64 << 20, cuts: 20, kills: 5, seed: 1}, t.Output()))
}
