package hive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// hookLimit is how long before_start may take.
const hookLimit = 5 * time.Minute

// environment returns what a worker gets: hive's own without what was meant for
// hive, what its user needs, the lines of its env_file, and what its type adds.
// The file is read at each start, and its values are never stored.
func environment(typ *catalog.Type, device string) ([]string, error) {
	var extra []string
	if typ.User != "" {
		cred, err := proc.LookUser(typ.User)
		if err != nil {
			return nil, fail(CodeExecFailed, "user of worker type %q: %v", typ.Name, err)
		}
		extra = append(extra, cred.Env()...)
	}
	if typ.EnvFile != "" {
		lines, err := readEnvFile(typ.EnvFile)
		if err != nil {
			return nil, fail(CodeExecFailed, "env_file of worker type %q: %v", typ.Name, err)
		}
		extra = append(extra, lines...)
	}
	return proc.Environ(os.Environ(), append(extra, typ.Environ(device)...)), nil
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxEnvFile bounds an env_file, in bytes: execve(2) takes no more in all.
const maxEnvFile = 1 << 20

// readEnvFile reads NAME=value, or NAME to pass a variable through, one to a line;
// empty lines and those that begin with # do not count. A value is taken as it
// stands, without quotes or expansion. Errors name the line and never a value.
func readEnvFile(path string) ([]string, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it, in the entry
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxEnvFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxEnvFile)
	}
	var env []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxEnvFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, _, _ := strings.Cut(line, "=")
		if !envName.MatchString(name) || strings.HasPrefix(name, "RBEEHIVE_") || strings.ContainsRune(line, 0) {
			return nil, fmt.Errorf("%s:%d: expected NAME=value, or NAME to pass a variable through", path, n)
		}
		env = append(env, line)
	}
	return env, lines.Err()
}

// beforeStart runs the entry's before_start to its end, with the worker's
// environment and the mark of a command instead of the lease's stamps.
func (h *Hive) beforeStart(ctx context.Context, typ *catalog.Type, rec store.Worker, env []string) error {
	argv, err := typ.Hook(h.valuesOf(typ, rec))
	if err != nil {
		return fail(CodeExecFailed, "before_start: %v", err)
	}
	if len(argv) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, hookLimit)
	defer cancel()
	return h.command(ctx, "before_start", argv, rec, env)
}

// command runs one of a worker's commands to its end, with its output in the
// worker's log. The error is a *failure that says how it ended.
func (h *Hive) command(ctx context.Context, key string, argv []string, rec store.Worker, env []string) error {
	program, err := proc.LookPath(argv[0], rec.Spec.Dir)
	if err != nil {
		return fail(CodeExecFailed, "%s: %v", key, err)
	}
	logLine(rec.Log, "%s: %s", key, strings.Join(argv, " "))
	res, err := proc.Run(ctx, proc.Command{
		Argv: append([]string{program}, argv[1:]...), Env: env, Dir: rec.Spec.Dir, User: rec.Spec.User, Log: rec.Log,
		StateID: h.store.Meta().StateID, Name: key + "." + rec.WorkerID,
	})
	switch {
	case errors.Is(context.Cause(ctx), errCancelled):
		return errCancelled
	case ctx.Err() != nil && h.ctx.Err() == nil:
		return fail(CodeExecFailed, "%s did not end within its time and was ended", key)
	case err != nil:
		return fail(CodeExecFailed, "%s: %v", key, err)
	case res.Exit.Code == nil || *res.Exit.Code != 0:
		f := fail(CodeExecFailed, "%s %s", key, describeExit(res.Exit))
		f.Log = h.logs.lastLines(ctx, rec, logTail)
		return f
	}
	return nil
}

// stopCommand runs the worker's own command to stop it, and gives it and the main
// process the grace of its stop. What is left then is ended as ever.
func (w *worker) stopCommand(ctx context.Context, p *proc.Process) {
	rec := w.record()
	if len(rec.Spec.Stop.Command) == 0 || p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rec.Spec.Stop.Grace)
	defer cancel()
	env := proc.Environ(os.Environ(), nil)
	typ := w.body.Load().made // its command is of then
	if typ == nil {
		typ, _ = w.h.types().Type(rec.Type)
	}
	if typ != nil {
		if own, err := environment(typ, rec.Spec.Device); err == nil {
			env = own
		}
	}
	if err := w.h.command(ctx, "stop.command", rec.Spec.Stop.Command, rec, env); err != nil {
		logLine(rec.Log, "%v", err)
		w.h.cfg.Log.WithError(err).WithField("worker", rec.WorkerID).Warn("the stop command failed; the worker is ended by signals")
		return
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
	}
}

// endCommands ends what a killed hive's commands have left behind, before any of
// ours run.
func (h *Hive) endCommands(ctx context.Context) error {
	if !slices.ContainsFunc(h.types().Types(), (*catalog.Type).HasCommands) {
		return nil
	}
	ended, err := proc.EndCommands(ctx, h.store.Meta().StateID)
	for _, m := range ended {
		h.cfg.Log.WithField("pid", m.PID).WithField("program", m.Program).Warn("ended a command of a worker type that a killed hive had left behind")
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		h.cfg.Log.WithError(err).Warn("what a killed hive's commands have left behind could not be ended wholly")
	}
	return nil
}
