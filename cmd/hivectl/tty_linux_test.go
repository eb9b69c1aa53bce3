package main_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// ctrlC is what a terminal's driver makes SIGINT of (termios(3), VINTR).
const ctrlC = "\x03"

// ttyCmd runs a command on a terminal of its own.
func ttyCmd(ts *testscript.TestScript, neg bool, args []string) {
	var columns, rows uint16
	if neg || len(args) < 4 {
		ts.Fatalf("usage: tty COLUMNSxROWS FILE REGEXP COMMAND...")
	}
	_, err := fmt.Sscanf(args[0], "%dx%d", &columns, &rows)
	ts.Check(err)
	enough := regexp.MustCompile(args[2])
	if args[2] == "-" {
		enough = regexp.MustCompile(`[^\s\S]`) // it ends by itself
	}
	cmd := exec.Command(args[3], args[4:]...)
	for _, name := range []string{"HIVE_ADDR", "GORACE", "NO_COLOR", "TERM", "PATH"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Dir = ts.MkAbs(".")
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: columns, Rows: rows})
	ts.Check(err)
	defer terminal.Close()
	limit := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	file := ts.MkAbs(args[1])
	seen, err := readTerminal(terminal, enough, func(seen []byte) error { return os.WriteFile(file, seen, 0o600) })
	ts.Check(err)
	_ = cmd.Wait() // its code is in the file
	if args[2] != "-" && !enough.MatchString(seen) {
		ts.Logf("%q", seen)
		ts.Fatalf("never showed %q", args[2])
	}
	seen += fmt.Sprintf("\nexit %d\n", cmd.ProcessState.ExitCode())
	ts.Check(os.WriteFile(file, []byte(seen), 0o600))
}

// readTerminal reads until the other side is closed, shows what it has seen so far, and
// types Ctrl-C once, when that matches.
func readTerminal(terminal *os.File, enough *regexp.Regexp, show func([]byte) error) (string, error) {
	var seen []byte
	buf := make([]byte, 4096)
	typed := false
	for {
		n, err := terminal.Read(buf)
		seen = append(seen, buf[:n]...)
		if err := show(seen); err != nil {
			return "", err
		}
		// EIO is how Linux says that nobody has the other side open any more.
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) {
			return string(seen), nil
		}
		if err != nil {
			return "", err
		}
		if typed || !enough.Match(seen) {
			continue
		}
		typed = true
		if _, err := io.WriteString(terminal, ctrlC); err != nil && !errors.Is(err, syscall.EIO) {
			return "", err
		}
	}
}
