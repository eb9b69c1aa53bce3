package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"time"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/store"
)

// commandGrace is what a command gets after SIGTERM to clean up.
const commandGrace = 2 * time.Second

// Run runs a command to its end and then ends what it has left running: a command has
// ended when all its processes have, as with ExecStartPre= of systemd. When ctx ends
// first, the whole command is ended, and the error says after what time and wraps the
// cause of ctx. Processes are ended with SIGTERM and, two seconds later, SIGKILL, as by
// Tree.Stop; a command without a log has nothing to clean up, and gets SIGKILL at
// once. Run returns at most ten seconds after ctx. The error is nil if the command has
// run to its end by itself, whatever Result.Exit is; it wraps an *ExecError if the
// command could not be executed, and ErrOtherUser if not as that user.
//
// The command is not recorded, so it must not outlive hive. Its main process gets
// SIGKILL from the kernel (PR_SET_PDEATHSIG) when hive dies in any way. That is
// tied to the thread that forked, and Go ends threads as it likes: so a command
// has a thread to itself until its end, which then ends too. The kernel forgets
// it in a program that changes its user (sudo), and it is not inherited: what the
// main process has started runs on until EndCommands, in the next start of hive.
//
// Safe for concurrent use.
func Run(ctx context.Context, cmd Command) (Result, error) {
	c, err := cmd.child()
	if err != nil {
		return Result{}, fmt.Errorf("run: %w", err)
	}
	if ctx.Err() != nil {
		return Result{}, fmt.Errorf("run %s: not started: %w", cmd.Argv[0], context.Cause(ctx))
	}
	var res Result
	var wg sync.WaitGroup
	wg.Go(func() {
		// Never unlocked, so the thread ends with the goroutine. An unlocked one would be
		// kept, as many as commands ever ran at once.
		runtime.LockOSThread()
		res, err = c.run(ctx, &Tree{mark: cmd.mark(), UID: c.uid(), StampProof: proveCommand(cmd.Secret, cmd.mark(), c.uid())})
	})
	wg.Wait()
	if err != nil {
		return res, fmt.Errorf("run %s: %w", cmd.Argv[0], err)
	}
	return res, nil
}

// child checks the command and makes the child of it.
func (c *Command) child() (*child, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	made := &child{
		argv: c.Argv, dir: c.Dir, log: c.Log,
		cgroup: commandLeaf + c.Name, stateID: c.StateID, diesWithThread: true,
	}
	if err := made.check(c.User, c.NoNewPrivs); err != nil {
		return nil, err
	}
	made.env = c.marked(made.uid())
	return made, nil
}

// run is Run on the thread that the child depends on. tree has the command's marks.
func (c *child) run(ctx context.Context, tree *Tree) (Result, error) {
	began := time.Now()
	g, err := c.start()
	if err != nil {
		return Result{}, err
	}
	read := readOutput(g)
	_, err = g.Open(ctx)
	// If ctx has ended the program may run already: it is ended below like one that does.
	interrupted := errors.Is(err, ctx.Err())
	if err != nil && !interrupted {
		read()
		return Result{}, err
	}
	select {
	case <-g.p.Done():
	case <-ctx.Done():
	}
	res := Result{Took: time.Since(began)}
	endedEarly := err != nil || !g.p.Ended()
	// The log is no proof here: it may be a worker's, which has it open too.
	tree.Main, tree.Identity, tree.Cgroup = g.p, g.Identity(), g.Cgroup()
	how := store.Stop{Signals: []string{"SIGTERM"}, Grace: commandGrace, Tree: true}
	if g.output != nil {
		how = store.Stop{}
	}
	res.Ended, res.Left, err = tree.endRemaining(how)
	g.p.awaitDone(0)
	res.Exit = g.p.Exit()
	g.Abort() // closes the gate's pipes if Open was interrupted
	g.p.Close()
	res.Output = read()
	return res, commandError(ctx, endedEarly, &res, err)
}

// outputTimeout is how long the output is still read after the end of the command: a
// process that could not be ended may have it open.
const outputTimeout = 100 * time.Millisecond

// readOutput starts to read what a command without a log writes. read ends that, and
// returns the first maxOutput bytes.
func readOutput(g *Gated) (read func() []byte) {
	if g.output == nil {
		return func() []byte { return nil }
	}
	// All of it is read, though little is kept: a full pipe would hold the command up.
	out := &prefixBuffer{max: maxOutput}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, g.output) // it ends with the last writer, or with the deadline
	}()
	return func() []byte {
		_ = g.output.SetReadDeadline(time.Now().Add(outputTimeout))
		<-done
		g.output.Close()
		return out.text.Bytes()
	}
}

// commandError says what went wrong: the command was ended early, or something of it is
// left.
func commandError(ctx context.Context, endedEarly bool, res *Result, stopErr error) error {
	var err error
	if endedEarly {
		err = fmt.Errorf("ended after %s: %w", res.Took.Round(time.Millisecond), context.Cause(ctx))
	}
	if len(res.Left) > 0 {
		stopErr = errors.Join(leftError(res.Left), stopErr)
	}
	// Why the command was ended comes first; that something is left of it may be a
	// consequence.
	switch {
	case err == nil:
		return stopErr
	case stopErr == nil:
		return err
	default:
		return fmt.Errorf("%w; %w", err, stopErr)
	}
}

// leftError names what could not be ended.
func leftError(left []Member) error {
	who := make([]string, 0, len(left))
	for _, m := range left {
		who = append(who, fmt.Sprintf("%s (pid %d)", m.Program, m.PID))
	}
	return fmt.Errorf("could not be ended: %s", strings.Join(who, ", "))
}

// endRemaining ends the tree unless nothing is left of it, which is the rule and is
// found out cheaply: a stop without a cgroup surveys at least three times. ended are the
// members other than the main process.
func (t *Tree) endRemaining(how store.Stop) (ended, left []Member, err error) {
	// Not the caller's context, which may have ended: that is when this is needed.
	ctx, cancel := context.WithTimeout(context.Background(), how.Grace+2*killTimeout)
	defer cancel()
	dir, hasCgroup := cgroupDir(t.Cgroup)
	if hasCgroup && !t.Main.alive() {
		if busy, err := cgroup.Populated(dir); err == nil && !busy {
			_ = cgroup.Remove(ctx, dir) // else PruneCgroups does
			return nil, nil, nil
		}
	}
	ended, err = t.Members(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(ended) == 0 && !hasCgroup && !t.Main.alive() {
		return nil, nil, nil
	}
	left, err = t.Stop(ctx, how)
	return ended, left, err
}
