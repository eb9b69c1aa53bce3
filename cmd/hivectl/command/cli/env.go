package cli

import (
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"rbeehive/cmd/hivectl/command/output"
)

// Env is the environment of a command.
type Env struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Environ        []string // for programs that a command starts
	// Width is the number of columns of the terminal on Stdout; 0: it is not a terminal.
	Width int
	// Size returns the present size of that terminal; 0, 0: it is none. Nil: it stays as
	// Width says.
	Size    func() (columns, rows int)
	Version string
	Now     func() time.Time
	// Socket and Addr are where the machine's hive is, if nobody says: a path and an
	// address. Empty: unixsock.System and client.DefaultAddr.
	Socket, Addr string
	// WatchInterval is how often a watched list is asked for; 0: every second.
	WatchInterval time.Duration
}

// System returns the environment of this process. An empty version is replaced
// by what the Go tool recorded in the binary.
func System(version string) Env {
	if version == "" {
		version = buildVersion()
	}
	size := func() (int, int) { return terminalSize(os.Stdout, os.Getenv("COLUMNS")) }
	columns, _ := size()
	return Env{
		Args:    os.Args[1:],
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Environ: os.Environ(),
		Width:   columns,
		Size:    size,
		Version: version,
		Now:     time.Now,
	}
}

// terminalSize returns the columns and rows of the terminal f, or 0 if f is none.
// COLUMNS counts only there: shells export it, and a pipe has no columns.
func terminalSize(f *os.File, variable string) (columns, rows int) {
	columns, rows = output.WindowSize(f)
	if columns == 0 {
		return 0, 0
	}
	if n, err := strconv.Atoi(variable); err == nil && n > 0 {
		columns = n
	}
	return columns, rows
}

// buildVersion is what the Go tool recorded in the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
