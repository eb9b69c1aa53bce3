package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// LookPath finds a program before anything is leased for it and returns its
// absolute path. A name with a slash is taken as it is, relative to dir (empty:
// the current directory); one without is searched for in hive's PATH. An error
// wraps ErrProgramNotFound and says where it was searched for and what is wrong. It
// reads the file system and nothing else.
func LookPath(program, dir string) (string, error) {
	if program == "" {
		return "", fmt.Errorf("%w: no program given", ErrProgramNotFound)
	}
	if !strings.Contains(program, "/") {
		return lookInPath(program)
	}
	file := program
	// Relative to the directory in which the program will run, not to hive's own.
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return "", fmt.Errorf("look up %s: %w", program, err)
	}
	if _, err := exec.LookPath(file); err != nil {
		return "", fmt.Errorf("%w: %s", ErrProgramNotFound, reason(file, err))
	}
	return file, nil
}

func lookInPath(program string) (string, error) {
	file, err := exec.LookPath(program)
	// A PATH with a relative entry finds what anybody may have put there.
	if errors.Is(err, exec.ErrDot) {
		return "", fmt.Errorf("%w: %s is only in the current directory; give its path", ErrProgramNotFound, program)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s is not in PATH (%s)", ErrProgramNotFound, program, os.Getenv("PATH"))
	}
	return filepath.Abs(file)
}

// reason says in words why a file cannot be executed.
func reason(file string, err error) string {
	info, statErr := os.Stat(file)
	switch {
	case errors.Is(statErr, fs.ErrNotExist):
		return file + " does not exist"
	case statErr != nil:
		return statErr.Error()
	case info.IsDir():
		return file + " is a directory"
	case errors.Is(err, fs.ErrPermission):
		return file + " is not executable"
	default:
		return err.Error()
	}
}
