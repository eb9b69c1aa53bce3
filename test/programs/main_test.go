//go:build linux

// Package programs_test runs hive, as it is shipped, with programs that were not
// made for it: servers from Debian, trees of processes that are hard to end, and
// the files of docs/examples as they are. Every test finds the processes itself,
// also by marks that hive does not use, and asks hive only through its API.
package programs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Variables between a test and the copy of itself that it runs.
const (
	binaryVar   = "HIVE_TEST_BINARY"   // the hive that is built already
	secludedVar = "HIVE_TEST_SECLUDED" // this process has a network and mounts of its own
)

// TestMain builds hive once. Under another name than its own the test binary is a
// program that hive runs.
func TestMain(m *testing.M) {
	if code, ok := asProgram(filepath.Base(os.Args[0]), os.Args[1:]); ok {
		os.Exit(code)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Getenv(binaryVar) != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "hive-programs-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	hive := filepath.Join(dir, "hive")
	build := exec.Command("go", "build", "-o", hive, "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build cmd/hive: %w\n%s", err, out)
	}
	// The race detector's default makes every stand-in take a second to exit.
	if err := errors.Join(os.Setenv("GORACE", "atexit_sleep_ms=0"), os.Setenv(binaryVar, hive)); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
