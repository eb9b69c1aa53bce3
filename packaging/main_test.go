// Package packaging_test checks the systemd units and the Debian package.
package packaging_test

import (
	"os/exec"
	"testing"

	"rbeehive/test/skip"
)

// need returns the path of a program, and skips the test where it is not.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		skip.Because(t, program+" is not in PATH")
	}
	return path
}
