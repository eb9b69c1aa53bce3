package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/store"
)

// commandGrace is what a command gets after SIGTERM to clean up.
const commandGrace = 2 * time.Second

// Run runs a command to its end and then ends what it has left running: it is over
// when all of it is, as with ExecStartPre= of systemd. When ctx ends first, the
// whole command is ended, and the error says after what time and wraps the cause
// of ctx. Processes are ended with SIGTERM and, two seconds later, SIGKILL, as by
// Tree.Stop; a command without a log has nothing to clean up, and gets SIGKILL at
// once. Run returns at most ten seconds after ctx. The error is nil if the
// command has run to its end by itself, whatever Result.Exit is; an *ExecError is
// in it if it could not be executed, and ErrOtherUser if not as that user.
//
// The command is not recorded, so it must not outlive hive. Its main process gets
// SIGKILL from the kernel (PR_SET_PDEATHSIG) when hive dies in any way. That is
// tied to the thread that forked, and Go ends threads as it likes: so a command
// has a thread to itself until it is over, which then ends too. The kernel forgets
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
		// Never unlocked: the thread ends with the goroutine, when it is not needed
		// any more. Given back it would be kept, one for each of the commands that
		// ever ran at once.
		runtime.LockOSThread()
		res, err = c.run(ctx, &Tree{hook: cmd.mark(), UID: c.uid(), StampProof: proveCommand(cmd.Secret, cmd.mark(), c.uid())})
	})
	wg.Wait()
	if err != nil {
		return res, fmt.Errorf("run %s: %w", cmd.Argv[0], err)
	}
	return res, nil
}

func (c *Command) child() (*child, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	made := &child{
		argv: c.Argv, dir: c.Dir, log: c.Log,
		cgroup: hookLeaf + c.Name, stateID: c.StateID, diesWithThread: true,
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
	read := collect(g)
	_, err = g.Open(ctx)
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
	cut := err != nil || !g.p.Ended()
	// Not the log: it may be a worker's, who has it open too.
	tree.Main, tree.Identity, tree.Cgroup = g.p, g.Identity(), g.Cgroup()
	how := store.Stop{Signals: []string{"SIGTERM"}, Grace: commandGrace, Tree: true}
	if g.output != nil {
		how = store.Stop{}
	}
	res.Rest, res.Left, err = tree.endRest(how)
	g.p.waitDone(0)
	res.Exit = g.p.Exit()
	g.Abort() // lets go of the gate if Open was interrupted
	g.p.Close()
	res.Output = read()
	return res, outcome(ctx, cut, &res, err)
}

// outputRest is how long what was written is read after the end of the command: a
// process that could not be ended may have its output open.
const outputRest = 100 * time.Millisecond

// collect begins to read what a command without a log writes. read ends that, and
// returns the beginning of it.
func collect(g *Gated) (read func() []byte) {
	if g.output == nil {
		return func() []byte { return nil }
	}
	out := &head{most: askMost}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, g.output) // it ends with the last writer, or with the deadline
	}()
	return func() []byte {
		_ = g.output.SetReadDeadline(time.Now().Add(outputRest))
		<-done
		g.output.Close()
		return out.text.Bytes()
	}
}

// outcome says what went otherwise than it should.
func outcome(ctx context.Context, cut bool, res *Result, stopErr error) error {
	var err error
	if cut {
		err = fmt.Errorf("ended after %s: %w", res.Took.Round(time.Millisecond), context.Cause(ctx))
	}
	if len(res.Left) > 0 {
		stopErr = errors.Join(stillThere(res.Left), stopErr)
	}
	switch {
	case err == nil:
		return stopErr
	case stopErr == nil:
		return err
	default:
		return fmt.Errorf("%w; %w", err, stopErr)
	}
}

func stillThere(left []Member) error {
	who := make([]string, 0, len(left))
	for _, m := range left {
		who = append(who, fmt.Sprintf("%s (pid %d)", m.Program, m.PID))
	}
	return fmt.Errorf("could not be ended: %s", strings.Join(who, ", "))
}

// endRest ends the tree unless nothing is left of it, which is the rule and is
// found out cheaply: a stop without a cgroup looks three times at least.
func (t *Tree) endRest(how store.Stop) (rest, left []Member, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), how.Grace+2*stopLimit)
	defer cancel()
	dir, grouped := cgroupDir(t.Cgroup)
	if grouped && !t.Main.alive() {
		if busy, err := cgroup.Populated(dir); err == nil && !busy {
			_ = cgroup.Remove(ctx, dir) // else PruneCgroups does
			return nil, nil, nil
		}
	}
	rest, err = t.Members(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) == 0 && !grouped && !t.Main.alive() {
		return nil, nil, nil
	}
	left, err = t.Stop(ctx, how)
	return rest, left, err
}

// EndCommands kills what a hive of this state that was killed has left of its
// commands, and returns who that was: whatever has their mark, proven by the state's
// secret, or is in a cgroup of theirs. Call it in recovery, before anything is run:
// commands under way would be ended too. Without marks only their cgroups count, and
// all of /proc is read only if there is one. An error says who could not be ended.
func EndCommands(ctx context.Context, stateID string, secret store.Secret, marks bool) (ended []Member, err error) {
	if stateID == "" {
		return nil, nil
	}
	trees := hookTrees(stateID)
	if marks {
		trees = append(trees, &Tree{hook: hookMarks(stateID), secret: secret, UID: NoUser})
	}
	if len(trees) == 0 {
		return nil, nil
	}
	found, err := SurveyMembers(ctx, trees)
	if err != nil {
		return nil, fmt.Errorf("end commands: %w", err)
	}
	var left []Member
	for i, t := range trees {
		if len(found[i]) == 0 && t.Cgroup == "" {
			continue // an empty cgroup is to be removed all the same
		}
		ended = append(ended, found[i]...)
		rest, err := t.Stop(ctx, store.Stop{})
		if err != nil {
			return ended, fmt.Errorf("end commands: %w", err)
		}
		left = append(left, rest...)
	}
	if len(left) > 0 {
		return ended, fmt.Errorf("end commands: %w", stillThere(left))
	}
	return ended, nil
}

// hookTrees returns the cgroups of commands.
func hookTrees(stateID string) []*Tree {
	m, err := findCgroupMount()
	if err != nil {
		return nil
	}
	root, err := rootOf(m, stateID)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(m.Dir, root))
	if err != nil {
		return nil // there is none: nothing was started in one
	}
	var trees []*Tree
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), hookLeaf) {
			trees = append(trees, &Tree{Cgroup: path.Join(root, e.Name())})
		}
	}
	return trees
}
