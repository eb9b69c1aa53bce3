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

	"golang.org/x/sys/unix"
)

const (
	// maxOutput is how many bytes Ask reads: a table of a few thousand processes.
	maxOutput = 256 << 10
	// askKillTimeout is how long Ask waits for the end of a program that it has killed.
	askKillTimeout = time.Second
)

// Ask runs a program that only says something about itself or this machine, as
// with --version, and returns what it wrote to stdout and stderr, at most the first
// 256 KiB. There is no shell; stdin is empty. It blocks until the program has ended,
// or ctx has: the program is killed then, with what it has started (its process
// group). What a program that has ended by itself leaves running is killed too. One
// that cannot be killed, because it hangs in a driver, is left behind after a second.
// Errors: ErrAskedFailed if the program did not exit with 0, with the first line that
// it wrote; the cause of ctx; or what kept it from being started.
// argv[0] is the absolute path of the program, env its whole environment.
//
// It is not a worker and has no record. So that a hive that is killed meanwhile
// leaves nothing behind, the kernel kills it with the thread that started it,
// which Ask keeps to itself until the end.
func Ask(ctx context.Context, argv, env []string) ([]byte, error) {
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return nil, errors.New("ask: argv[0] must be the absolute path of the program")
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("ask %s: %w", argv[0], context.Cause(ctx))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out := &prefixBuffer{max: maxOutput}
	// Not ended by ctx: os/exec knows how to kill one process only.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...) //nolint:gosec // programs of the configuration are what it is for
	cmd.Env = append([]string{}, env...)                                         // nil would be hive's own
	cmd.Stdout, cmd.Stderr = out, out
	// A session of its own, so that the reaper takes what it leaves behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	cmd.WaitDelay = 100 * time.Millisecond
	err := runGroup(ctx, cmd)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.As(err, &exit):
		err = fmt.Errorf("%w: %w%s", ErrAskedFailed, err, out.firstLine())
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", argv[0], err)
	}
	return out.text.Bytes(), nil
}

// runGroup runs cmd to its end, or that of ctx, and ends the rest of its process
// group. The group is signalled by number only before its leader has been reaped:
// until then nobody else can have the number.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	children.fork.RLock()
	err := cmd.Start()
	if err != nil {
		children.fork.RUnlock()
		return err
	}
	pid := cmd.Process.Pid
	children.add(pid)
	children.fork.RUnlock()
	// The goroutine sees the end of the leader, and reaps it only after the group has been
	// killed.
	over, reaped := make(chan struct{}), make(chan error, 1)
	killed := make(chan struct{})
	go func() {
		awaitExit(pid)
		close(over)
		<-killed
		err := cmd.Wait()
		children.remove(pid)
		reaped <- err
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
	_ = unix.Kill(-pid, unix.SIGKILL) // ESRCH: only a zombie is in it
	close(killed)
	if ctx.Err() == nil {
		err := <-reaped
		if errors.Is(err, exec.ErrWaitDelay) {
			return nil // it has ended; a process that left its group holds its output open
		}
		return err
	}
	// A program that hangs in a driver takes no SIGKILL: it is reaped whenever it ends.
	select {
	case err = <-reaped:
	case <-time.After(askKillTimeout):
		err = context.Cause(ctx)
	}
	return err
}

// awaitExit blocks until a child has ended, and leaves it to be reaped.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// prefixBuffer keeps the beginning of what is written to it. It is not safe for
// concurrent use; os/exec gives stdout and stderr one writer when they are equal.
type prefixBuffer struct {
	text bytes.Buffer
	max  int
}

func (h *prefixBuffer) Write(p []byte) (int, error) {
	keep := min(len(p), h.max-h.text.Len())
	h.text.Write(p[:keep])
	return len(p), nil
}

// firstLine is the beginning of an error's explanation; empty if nothing was said.
func (h *prefixBuffer) firstLine() string {
	const longest = 200
	line, _, _ := bytes.Cut(bytes.TrimSpace(h.text.Bytes()), []byte("\n"))
	if len(line) == 0 {
		return ""
	}
	return fmt.Sprintf(": %.*q", longest, bytes.ToValidUTF8(bytes.TrimSpace(line), nil))
}
