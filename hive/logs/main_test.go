package logs_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is a worker that prints when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "writer" {
		os.Exit(writerMain(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// writerMain prints numbered lines, each with one write, and then waits to be killed.
// After so many lines it pauses for a millisecond; 0: it never does.
func writerMain(args []string) int {
	lines, errLines := strconv.Atoi(args[0])
	pauseAfter, errPause := strconv.Atoi(args[1])
	if err := errors.Join(errLines, errPause); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	for n := range lines {
		if pauseAfter > 0 && n%pauseAfter == 0 {
			<-time.After(time.Millisecond)
		}
		if _, err := os.Stdout.WriteString(numbered(n)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	select {} // until it is killed
}
