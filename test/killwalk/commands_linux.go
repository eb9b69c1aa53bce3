package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"rbeehive/test/harness"
)

// commandTimeout bounds a command of hivectl db, which takes a fraction of a second.
const commandTimeout = time.Minute

// command is one of hivectl db, on the file of a hive that was killed with its workers alive.
type command struct {
	name string
	// prepare brings the file to where an administrator uses the command; nil: nothing is needed.
	prepare func(*command, context.Context) error
	args    []string
	// repeat: killed in its middle it may leave no state file, which hive says, and is to be
	// run again.
	repeat bool

	hivectl, data, backup string
}

// commands are those that write.
func commands() []command {
	return []command{
		{name: "compact", args: []string{"compact", "--data-dir", "DATA"}},
		{name: "backup", args: []string{"backup", "BACKUP", "--data-dir", "DATA"}},
		{name: "restore", args: []string{"restore", "BACKUP", "--data-dir", "DATA"}, prepare: (*command).backUp, repeat: true},
		{name: "salvage", args: []string{"salvage", "--yes", "--data-dir", "DATA"}, prepare: (*command).damage, repeat: true},
	}
}

// cmd is the process of the command.
func (c *command) cmd(args []string) *exec.Cmd {
	argv := []string{"db"}
	for _, a := range args {
		argv = append(argv, strings.NewReplacer("DATA", c.data, "BACKUP", c.backup).Replace(a))
	}
	return exec.Command(c.hivectl, argv...)
}

func (c *command) complete(ctx context.Context, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := c.cmd(args)
	out, err := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("hivectl db %s: %w: %s", args[0], err, out)
	}
	return nil
}

func (c *command) backUp(ctx context.Context) error {
	return c.complete(ctx, []string{"backup", "BACKUP", "--data-dir", "DATA"})
}

// damage makes both meta pages unreadable: all the rest is there, and nothing leads to it.
func (c *command) damage(context.Context) error {
	f, err := os.OpenFile(filepath.Join(c.data, "hive.db"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 2*os.Getpagesize()), 0)
	return errors.Join(err, f.Close())
}

// commandAt lets the script run to its end, kills hive, and then the command at its n-th call;
// at 0 it ends by itself. Whatever it has left, hive must find everything.
func (k *killwalk) commandAt(ctx context.Context, c command, n int) (calls int, err error) {
	w, err := newWalk(k.program.Hive, "auto")
	if err != nil {
		return 0, err
	}
	c.hivectl, c.data, c.backup = k.hivectl, w.hive.Data(), filepath.Join(w.hive.Dir, "backup.db")
	if _, err = w.traced(ctx, killAt(0), w.script.run); err == nil && c.prepare != nil {
		err = c.prepare(&c, ctx)
	}
	if err != nil {
		return 0, w.close(err)
	}
	t, out, err := c.traced(ctx, killAt(n))
	said := fmt.Sprintf("hivectl db %s, killed %s", c.name, t.place("it"))
	k.tally.Add("commands", 1)
	var broken []harness.Contradiction
	if err == nil && n == 0 && !strings.Contains(out, filepath.Dir(c.data)) {
		broken = append(broken, harness.Contradiction{Kind: "SILENT", Text: "it has not said what it did: " + out})
	}
	if err == nil && c.repeat && t.killed.n > 0 {
		err = c.again(ctx)
	}
	if err == nil {
		var after []harness.Contradiction
		after, err = w.check(ctx, k.hivectl)
		broken = append(broken, after...)
	}
	k.report(w, said, broken)
	if err = w.close(err); err != nil {
		return 0, fmt.Errorf("%s: %w", said, err)
	}
	return t.calls, nil
}

// again is what an administrator does whose command was killed.
func (c *command) again(ctx context.Context) error {
	err := c.complete(ctx, c.args)
	if err != nil && c.complete(ctx, []string{"check", "--data-dir", "DATA"}) == nil {
		return nil // it was done: a file that is whole is not salvaged
	}
	return err
}

// traced runs the command under the tracer.
func (c *command) traced(ctx context.Context, decide func(call) action) (*tracer, string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var out bytes.Buffer
	t := &tracer{decide: decide}
	cmd := c.cmd(c.args)
	r, w, err := os.Pipe()
	if err != nil {
		return t, "", err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = out.ReadFrom(r) })
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(t.pid, syscall.SIGKILL) })
	defer stop()
	launched := make(chan error, 1)
	err = t.follow(func(attr *syscall.SysProcAttr) (int, error) {
		cmd.SysProcAttr = attr
		defer w.Close()
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	}, launched)
	reading.Wait()
	if cmd.Process != nil {
		_ = cmd.Process.Release() // the tracer has waited for it
	}
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("hivectl db %s has not ended: %s", c.name, out.String())
	}
	return t, out.String(), err
}
