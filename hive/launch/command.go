package launch

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/logs"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// hookTimeout is how long before_start may take.
const hookTimeout = 5 * time.Minute

// BeforeStart runs the entry's before_start to its end, with the worker's
// Environment and the mark of a command instead of the lease's stamps.
func (l *Launcher) BeforeStart(ctx context.Context, typ *catalog.Type, rec store.Worker, env []string) error {
	l.Logs.Restore() // what follows writes into the worker's log
	argv, err := typ.Hook(l.ValuesOf(typ, rec))
	if err != nil {
		return errdefs.Fail(errdefs.CodeExecFailed, "before_start: %v", err)
	}
	if len(argv) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	return l.Command(ctx, "before_start", argv, rec, env)
}

// Command runs one of a worker's commands to its end, with its output in the
// worker's log. The error is an *errdefs.Failure that says how it ended.
func (l *Launcher) Command(ctx context.Context, key string, argv []string, rec store.Worker, env []string) error {
	program, err := proc.FindProgram(ctx, argv[0], WorkDir(rec.Spec.User, rec.Spec.Dir))
	if err != nil {
		return errdefs.Fail(errdefs.CodeExecFailed, "%s: %v", key, err)
	}
	logs.Printf(rec.Log, "%s: %s", key, strings.Join(argv, " "))
	res, err := proc.Run(ctx, proc.Command{
		Argv: append([]string{program}, argv[1:]...), Env: env,
		Dir: rec.Spec.Dir, User: rec.Spec.User, NoNewPrivs: rec.Spec.NoNewPrivs, Log: rec.Log,
		StateID: l.StateID, Secret: l.Secret, Name: key + "." + rec.WorkerID,
	})
	switch {
	// Before the next case: what was cancelled was not too slow.
	case errors.Is(context.Cause(ctx), errdefs.ErrCancelled):
		return errdefs.ErrCancelled
	// When hive closes, the command did not take too long either.
	case ctx.Err() != nil && !l.Closing():
		return errdefs.Fail(errdefs.CodeExecFailed, "%s did not end within its time and was ended", key)
	case err != nil:
		return StartFailed(key, rec, err)
	case res.Exit.Code == nil || *res.Exit.Code != 0:
		f := errdefs.Fail(errdefs.CodeExecFailed, "%s %s", key, DescribeExit(res.Exit))
		f.Log = l.Logs.LastLines(ctx, rec.WorkerID, rec.Log, key+":", LogTail)
		return f
	}
	return nil
}

// DescribeExit says for a person how a process has ended.
func DescribeExit(e store.Exit) string {
	oom := ""
	if e.OOM {
		oom = " (out of memory)"
	}
	switch {
	case e.Signal != "":
		return "killed by " + e.Signal + oom
	case e.Code != nil:
		return "exited with code " + strconv.Itoa(*e.Code) + oom
	}
	return "exited, its code is unknown"
}
