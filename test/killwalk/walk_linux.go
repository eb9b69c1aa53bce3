package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"rbeehive/test/harness"
)

// walk is one hive that is killed at chosen calls, and checked.
type walk struct {
	script   *script
	hive     *harness.Instance
	stranger *exec.Cmd
	refused  error // what hive has answered last, if that was an error
}

// gate is a value of the setting.
func newWalk(binary, gate string) (*walk, error) {
	hive, err := harness.New(binary, ports, entries, "log_level: warn")
	if err != nil {
		return nil, err
	}
	hive.Gates = []string{gate}
	w := &walk{hive: hive, stranger: exec.Command("sleep", "600")}
	if err := w.stranger.Start(); err != nil {
		return nil, w.close(err)
	}
	w.script = &script{hive: hive, promises: newPromises(), stranger: w.stranger.Process.Pid}
	return w, nil
}

// output is what its hives have printed.
func (w *walk) output() []byte {
	said, _ := os.ReadFile(w.hive.Output())
	return said
}

func (w *walk) close(cause error) error {
	if w.stranger.Process != nil {
		_ = w.stranger.Process.Kill()
		_ = w.stranger.Wait()
	}
	return w.hive.Close(cause)
}

// traced starts hive under the tracer and lets do work with it, until hive was killed at
// the n-th call, or do has ended; hive is killed then. It returns how many calls hive had
// made by then, and the one that it was killed at.
func (w *walk) traced(ctx context.Context, decide func(call) action, do func(context.Context) error) (*tracer, error) {
	t := &tracer{decide: decide}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	launched := make(chan error, 1)
	var following sync.WaitGroup
	var followed error
	following.Go(func() {
		defer cancel() // nobody answers any more
		followed = t.follow(func(attr *syscall.SysProcAttr) (int, error) {
			if err := w.hive.Launch(attr); err != nil {
				return 0, err
			}
			return w.hive.PID(), nil
		}, launched)
	})
	if err := <-launched; err != nil {
		following.Wait()
		return t, err
	}
	err := do(ctx)
	_ = syscall.Kill(t.pid, syscall.SIGKILL)
	following.Wait()
	w.hive.Kill()
	if followed != nil {
		return t, followed
	}
	if refused(err) {
		return t, fmt.Errorf("the script went wrong before hive was killed: %w", err)
	}
	return t, nil
}

// killAt is what becomes of the n-th call.
func killAt(n int) func(call) action {
	return func(c call) action { return action{kill: c.n == n} }
}

// check starts hive again, without a tracer, and compares.
func (w *walk) check(ctx context.Context, hivectl string) ([]harness.Contradiction, error) {
	c := &checker{hive: w.hive, promises: w.script.promises, stranger: w.stranger.Process.Pid}
	if err := w.hive.Start(ctx); err != nil {
		return nil, err
	}
	err := c.check(ctx, hivectl)
	if errors.Is(err, harness.ErrTimeout) || refused(err) {
		c.violation("STUCK", "%v", err)
		err = nil
	}
	return c.broken, err
}
