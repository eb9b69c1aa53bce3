package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	hivectl "rbeehive/cmd/hivectl"
)

// TestMain makes `hivectl` in a script this test binary running hivectl's own
// main, and `hive` the daemon as it is shipped.
func TestMain(m *testing.M) {
	testscript.Main(scripts{m}, map[string]func(){"hivectl": hivectl.Main})
}

// scripts runs the tests with a hive in PATH. Package main of cmd/hive cannot
// be imported here, so it is built, once.
type scripts struct{ m *testing.M }

func (s scripts) Run() int {
	syscall.Umask(0o022) // with 002 no directory of a script is one that hive believes
	code, err := s.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func (s scripts) run() (int, error) {
	dir, err := os.MkdirTemp("", "hivectl-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "hive"), "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build cmd/hive: %w\n%s", err, out)
	}
	if err := os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH")); err != nil {
		return 0, err
	}
	code := s.m.Run()
	if code != 0 {
		return code, nil
	}
	return 0, goleak.Find()
}
