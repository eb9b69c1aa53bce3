package proc

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"rbeehive/store"
)

// ParseSignal turns "SIGTERM" or "TERM" into a signal. Real-time signals have
// no names here. An error wraps ErrUnknownSignal.
func ParseSignal(name string) (syscall.Signal, error) {
	full := name
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	sig := unix.SignalNum(full)
	if sig == 0 {
		return 0, fmt.Errorf("%w: %q", ErrUnknownSignal, name)
	}
	return sig, nil
}

// signalName is the inverse, with a number for a signal that has no name.
func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("SIG%d", int(sig))
}

// ExitCode is what a shell makes of an exit: the code, or 128 and the number of
// the signal. How a child of this process ended is always known; an unknown exit becomes
// 1, which means "failed" and nothing else.
func ExitCode(exit store.Exit) int {
	if exit.Code != nil {
		return *exit.Code
	}
	if sig, err := ParseSignal(exit.Signal); err == nil {
		return 128 + int(sig)
	}
	// What signalName writes for a signal without a name.
	if n, err := strconv.Atoi(strings.TrimPrefix(exit.Signal, "SIG")); err == nil {
		return 128 + n
	}
	return 1
}

func parseSignals(names []string) ([]syscall.Signal, error) {
	out := make([]syscall.Signal, 0, len(names))
	for _, name := range names {
		sig, err := ParseSignal(name)
		if err != nil {
			return nil, err
		}
		out = append(out, sig)
	}
	return out, nil
}
