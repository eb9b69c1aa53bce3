package proc

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
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
