//go:build linux

package store_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childEnv names what this binary does instead of running tests, when a test
// has started it as a process of its own.
const childEnv = "HIVE_TEST_STORE_CHILD"

func TestMain(m *testing.M) {
	if child, ok := children()[os.Getenv(childEnv)]; ok {
		os.Exit(child(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}
