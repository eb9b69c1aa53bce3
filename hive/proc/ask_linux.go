package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// askMost is how many bytes Ask reads.
const askMost = 16 << 10

// Ask runs a program that only says something about itself, as with --version,
// and returns what it wrote to stdout and stderr, at most the first 16 KiB. There
// is no shell; stdin is empty. It blocks until the program has ended, or ctx has:
// the program is killed then. Errors: ErrAskedFailed if the program did not exit
// with 0; the cause of ctx; or what kept it from being started.
// argv[0] is the absolute path of the program, env its whole environment.
//
// It is not a worker and has no record. So that a hive that is killed meanwhile
// leaves nothing behind, the kernel kills it with the thread that started it,
// which Ask keeps to itself until the end.
func Ask(ctx context.Context, argv, env []string) ([]byte, error) {
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return nil, errors.New("ask: argv[0] must be the absolute path of the program")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out := &head{most: askMost}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append([]string{}, env...) // nil would be hive's own
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 100 * time.Millisecond
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended; something that it started holds its output open
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.As(err, &exit):
		err = fmt.Errorf("%w: %w", ErrAskedFailed, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", argv[0], err)
	}
	return out.text.Bytes(), nil
}

// head keeps the beginning of what is written to it. It is not safe for
// concurrent use; exec gives stdout and stderr one writer when they are equal.
type head struct {
	text bytes.Buffer
	most int
}

func (h *head) Write(p []byte) (int, error) {
	keep := min(len(p), h.most-h.text.Len())
	h.text.Write(p[:keep])
	return len(p), nil
}
