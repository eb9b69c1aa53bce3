// Package packaging_test checks the systemd units and the Debian package.
package packaging_test

import (
	"os"
	"os/exec"
	"testing"
)

// need returns the path of a program, and skips the test where it is not.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		skip(t, program+" is not in PATH")
	}
	return path
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("HIVE_TEST_STRICT") == "1" {
		t.Fatal("would be skipped: " + why)
	}
	t.Skip(why)
}
