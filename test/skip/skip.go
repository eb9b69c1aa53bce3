// Package skip skips tests that the machine at hand cannot run. In CI, which sets
// HIVE_TEST_STRICT=1, such a test fails instead: a test that nobody runs must not go
// unnoticed.
package skip

import (
	"os"
	"testing"
)

// Because ends the test and gives the reason, whose parts are printed as by t.Skip.
func Because(t testing.TB, why ...any) {
	t.Helper()
	if os.Getenv("HIVE_TEST_STRICT") == "1" {
		t.Fatal(append([]any{"would be skipped:"}, why...)...)
	}
	t.Skip(why...)
}

// UnlessRoot is Because for a test that only root can run.
func UnlessRoot(t testing.TB, why ...any) {
	t.Helper()
	if os.Geteuid() != 0 {
		Because(t, why...)
	}
}
