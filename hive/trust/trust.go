package trust

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// ErrUntrusted is what every *Error unwraps to.
var ErrUntrusted = errors.New("not believed")

// Error is a file or directory that is not trusted.
type Error struct {
	Path   string // what is at fault: what was asked for, or a directory or link on its way
	Reason string // whose it is, and why that matters
	Remedy string // what to do about it, with the command
}

func (e *Error) Error() string { return e.Path + " " + e.Reason + "; " + e.Remedy }

// Unwrap returns ErrUntrusted.
func (e *Error) Unwrap() error { return ErrUntrusted }

// ReadFile reads a regular file that is trusted. One that has more than limit bytes is an
// error. Errors besides: those of Open, and the system's.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One byte more than allowed, by which too large a file is noticed.
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, nil
}

// notRegular is the error for what cannot be read as a file.
func notRegular(path string, mode os.FileMode) error {
	kind := "something else"
	switch mode.Type() {
	case os.ModeDir:
		kind = "a directory"
	case os.ModeNamedPipe:
		kind = "a fifo"
	case os.ModeSocket:
		kind = "a socket"
	case os.ModeDevice, os.ModeDevice | os.ModeCharDevice:
		kind = "a device"
	}
	return fmt.Errorf("%s is %s, not a regular file", path, kind)
}

func notDirectory(path string) error {
	return fmt.Errorf("%s is not a directory", path)
}

// quote makes a path one word of a shell.
func quote(path string) string {
	plain := func(r rune) bool {
		return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/._-+,:@%", r))
	}
	if path != "" && !strings.ContainsFunc(path, func(r rune) bool { return !plain(r) }) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
