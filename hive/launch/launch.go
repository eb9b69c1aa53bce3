package launch

import (
	"context"
	"errors"
	"strings"

	"github.com/sirupsen/logrus"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/logs"
	"rbeehive/hive/models"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// LogTail is how many lines of a worker's log a failed job shows.
const LogTail = 20

// Launcher prepares starts. Its fields are set before it is used; its methods are safe
// for concurrent use.
type Launcher struct {
	StateID  string
	Secret   []byte // proves membership; see proc.Prove
	HiveURL  string
	QueenURL func() string // as it is configured now; empty: none
	Cgroups  bool          // each worker gets a cgroup of its own
	Models   *models.Library
	Logs     *logs.Dir
	Closing  func() bool // whether hive closes
	Log      *logrus.Logger
}

// Prepared is what Prepare has found out for a start.
type Prepared struct {
	Env     []string // of the worker
	program string   // as the command names it
	dir     string
}

// Prepare makes the spec of a start from what was asked for and the type as it is
// now, finds the program, and makes the environment. The error is *errdefs.Failure, or
// why ctx was cancelled.
func (l *Launcher) Prepare(ctx context.Context, typ *catalog.Type, rec *store.Worker) (p Prepared, err error) {
	if why := typ.Unavailable(); why != "" {
		return p, errdefs.Fail(errdefs.CodeProgramNotFound, "%s", why)
	}
	if err := l.ambiguous(typ, *rec); err != nil {
		return p, err
	}
	spec, err := typ.Render(l.ValuesOf(typ, *rec))
	if err != nil {
		return p, errdefs.Fail(errdefs.CodeExecFailed, "the command of worker type %q: %v", typ.Name, err)
	}
	// Before anything is leased: the usual mistake, a wrong path, costs no process and no commit.
	p.program, p.dir = spec.Argv[0], spec.Dir
	program, err := proc.FindProgram(ctx, spec.Argv[0], WorkDir(spec.User, spec.Dir))
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return p, context.Cause(ctx)
	case errors.Is(err, proc.ErrHangs):
		return p, errdefs.Fail(errdefs.CodeExecFailed, "the file system of %s does not answer", spec.Argv[0])
	case err != nil:
		return p, errdefs.Fail(errdefs.CodeProgramNotFound, "%s", strings.TrimPrefix(err.Error(), proc.ErrProgramNotFound.Error()+": "))
	}
	spec.Argv[0] = program
	rec.Spec = spec
	if err = l.present(ctx, typ, *rec); err == nil {
		if err = l.readable(ctx, typ, *rec); err == nil {
			p.Env, err = Environment(ctx, typ, spec.User, spec.Device)
		}
	}
	// Who asked has gone: that says nothing of what was being looked at.
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return p, context.Cause(ctx)
	}
	return p, err
}

// Complete makes the spec of a start that was prepared once more, when the worker has its
// ports: they are in its command. What p was found out about is not looked at again, unless it
// is another program or directory now. The error is as of Prepare.
func (l *Launcher) Complete(ctx context.Context, p Prepared, typ *catalog.Type, rec *store.Worker) (Prepared, error) {
	spec, err := typ.Render(l.ValuesOf(typ, *rec))
	if err != nil || spec.Argv[0] != p.program || spec.Dir != p.dir {
		return l.Prepare(ctx, typ, rec)
	}
	spec.Argv[0] = rec.Spec.Argv[0]
	rec.Spec = spec
	return p, nil
}

// Values are the values of a spawn that was asked for, with the id and the port that it has
// or that stand in for them.
func (l *Launcher) Values(op operation.Spawn, workerID string, port uint16) catalog.Values {
	return catalog.Values{
		Port: port, Model: op.Model, Device: op.Device, WorkerID: workerID, Name: op.Name,
		QueenURL: l.QueenURL(), HiveURL: l.HiveURL, Params: op.Params,
	}
}

// ValuesOf are the values of a new start of a worker: what was asked for, and the
// ports that it has, however many its type leases by now.
func (l *Launcher) ValuesOf(typ *catalog.Type, rec store.Worker) catalog.Values {
	op := operation.Spawn{Model: rec.Asked.Model, Device: rec.Asked.Device, Name: rec.Name, Params: rec.Asked.Params}
	v := l.Values(op, rec.WorkerID, rec.Port)
	// Not as many as the type leases by now: the worker keeps what it has.
	v.Ports = rec.Ports
	return l.Located(typ, v)
}

// ProcSpec is what proc needs to start the program of a record that Prepare has completed.
func (l *Launcher) ProcSpec(rec store.Worker, env []string) proc.Spec {
	cgroup := ""
	if l.Cgroups {
		cgroup = rec.WorkerID
	}
	return proc.Spec{
		Argv: rec.Spec.Argv, Env: env, Dir: rec.Spec.Dir, User: rec.Spec.User, NoNewPrivs: rec.Spec.NoNewPrivs, Log: rec.Log, Cgroup: cgroup,
		StateID: l.StateID, Secret: l.Secret, LeaseID: rec.LeaseID, WorkerID: rec.WorkerID, Name: rec.Name,
	}
}
