package hive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/logs"
	"rbeehive/hive/proc"
	"rbeehive/hive/trust"
	"rbeehive/store"
)

// hookLimit is how long before_start may take.
const hookLimit = 5 * time.Minute

// environment returns what the programs of a worker type get that run as user, the
// type's or that of a worker of it: hive's own as far as it is handed on to that user,
// what the user needs, the lines of the type's env_file, and what the type adds.
// The file is read at each start, and its values are never stored.
func environment(ctx context.Context, typ *catalog.Type, user, device string) ([]string, error) {
	var lines []string
	if typ.EnvFile != "" {
		var err error
		if lines, err = readEnvFile(ctx, typ.EnvFile, user); err != nil {
			return nil, fail(CodeExecFailed, "env_file of worker type %q: %v", typ.Name, err)
		}
	}
	env, err := environ(user, append(lines, typ.Environ(device)...))
	if err != nil {
		return nil, fail(CodeExecFailed, "user of worker type %q: %v", typ.Name, err)
	}
	return env, nil
}

// environ is the environment of a program that runs as user, without anything of a
// type but extra.
func environ(user string, extra []string) ([]string, error) {
	if user == "" {
		return proc.Environ(os.Environ(), extra), nil
	}
	cred, err := proc.LookUser(user)
	if err != nil {
		return nil, err
	}
	return cred.Environ(os.Environ(), extra), nil
}

// otherUser reports whether a user is one whom hive does not run as.
func otherUser(name string) (bool, error) {
	if name == "" {
		return false, nil
	}
	cred, err := proc.LookUser(name)
	return cred.Other(), err
}

// workDir is where programs run that are to run in dir, as user. hive's own directory
// may be where another user must not be.
func workDir(user, dir string) string {
	if other, err := otherUser(user); dir == "" && err == nil && other {
		return "/"
	}
	return dir
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

const (
	// maxEnvFile bounds an env_file, in bytes: execve(2) takes no more in all.
	maxEnvFile = 1 << 20
	// fileLimit is how long a look at a file of a worker's may take.
	fileLimit = 5 * time.Second
)

// readEnvFile reads NAME=value, or NAME to pass a variable through, one to a line;
// empty lines and those that begin with # do not count. A value is taken as it
// stands, without quotes or expansion. Errors name the line and never a value.
//
// It is read with the rights of the user whom the worker runs as, who may have made
// it, or a link in its place. So a file of another user's than hive's passes nothing
// through that this user would not get anyway.
func readEnvFile(ctx context.Context, path, user string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, fileLimit)
	defer cancel()
	other, err := otherUser(user)
	if err != nil {
		return nil, err
	}
	text, err := proc.AsUser(ctx, user, func() ([]byte, error) {
		if !other { // hive reads it with its own rights, so nobody else may have written it
			return trust.ReadFile(path, maxEnvFile)
		}
		f, err := proc.OpenRegular(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	})
	switch {
	case errors.Is(err, fs.ErrPermission) && user != "":
		return nil, fmt.Errorf("%w: user %s, whom the worker runs as, must be able to read it", err, user)
	case errors.Is(err, proc.ErrHangs):
		return nil, fmt.Errorf("read %s: %w", path, err)
	case err != nil:
		return nil, err
	case len(text) > maxEnvFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxEnvFile)
	}
	return envLines(path, text, other)
}

func envLines(path string, text []byte, other bool) ([]string, error) {
	var env []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxEnvFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, _, given := strings.Cut(line, "=")
		if !envName.MatchString(name) || strings.HasPrefix(name, "RBEEHIVE_") || strings.ContainsRune(line, 0) {
			return nil, fmt.Errorf("%s:%d: expected NAME=value, or NAME to pass a variable through", path, n)
		}
		if !given && other && !proc.Inherits(name, true) {
			return nil, fmt.Errorf("%s:%d: %s of hive's own environment is not handed on to another user by a file that this user may have written; name it in env of the entry", path, n, name)
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
	program, err := proc.LookPath(argv[0], workDir(rec.Spec.User, rec.Spec.Dir))
	if err != nil {
		return fail(CodeExecFailed, "%s: %v", key, err)
	}
	logs.Printf(rec.Log, "%s: %s", key, strings.Join(argv, " "))
	res, err := proc.Run(ctx, proc.Command{
		Argv: append([]string{program}, argv[1:]...), Env: env,
		Dir: rec.Spec.Dir, User: rec.Spec.User, NoNewPrivs: rec.Spec.NoNewPrivs, Log: rec.Log,
		StateID: h.store.Meta().StateID, Secret: h.store.Secret(), Name: key + "." + rec.WorkerID,
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
		f.Log = h.logs.LastLines(ctx, rec.WorkerID, rec.Log, logTail)
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
	env, err := w.stopEnvironment(ctx, rec)
	if err == nil {
		err = w.h.command(ctx, "stop.command", rec.Spec.Stop.Command, rec, env)
	}
	if err != nil {
		logs.Printf(rec.Log, "%v", err)
		w.h.cfg.Log.WithError(err).WithField("worker", rec.WorkerID).Warn("the stop command failed; the worker is ended by signals")
		return
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
	}
}

// stopEnvironment is the environment of a worker's stop command: that of its type,
// as far as it can be had now.
func (w *worker) stopEnvironment(ctx context.Context, rec store.Worker) ([]string, error) {
	typ := w.body.Load().made // its command is of then
	if typ == nil {
		typ, _ = w.h.types().Type(rec.Type)
	}
	if typ != nil {
		if env, err := environment(ctx, typ, rec.Spec.User, rec.Spec.Device); err == nil {
			return env, nil
		}
	}
	return environ(rec.Spec.User, nil)
}

// endCommands ends what a killed hive's commands have left behind, before any of
// ours run.
func (h *Hive) endCommands(ctx context.Context) error {
	// A program that was asked for its version, which any can have been, has a cgroup if
	// any has; for what has none all of /proc is read.
	marks := !h.cgroups || slices.ContainsFunc(h.types().Types(), (*catalog.Type).HasCommands)
	ended, err := proc.EndCommands(ctx, h.store.Meta().StateID, h.store.Secret(), marks)
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
