package models_test

import (
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // with 002 t.TempDir is no place that is believed
	goleak.VerifyTestMain(m)
}
