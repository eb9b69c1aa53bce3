//go:build linux

package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// children are the things this binary can do as a process of its own.
func children() map[string]func(args []string) int {
	return map[string]func([]string) int{
		"eio":      childEIO,
		"hold":     childHold,
		"full":     childFull,
		"sizeless": childSizeless,
		"migrate":  childMigrate,
	}
}

// childCommand is this binary as a child, killed when the test ends.
func childCommand(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

// runChild returns what a child wrote to its standard output.
func runChild(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := childCommand(t, name, args...)
	var out bytes.Buffer
	cmd.Stdout = &out
	require.NoError(t, cmd.Run())
	return out.Bytes()
}

func childContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

func childFailed(err error) int {
	fmt.Fprintln(os.Stderr, "child:", err)
	return 1
}
