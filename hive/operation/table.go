package operation

import (
	"context"
	"maps"
	"slices"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/input"
	"rbeehive/hive/journal"
	"rbeehive/store"
)

// Job is the job by which an operation is carried out, as far as whoever carries it out
// needs to know. It is safe for concurrent use.
type Job interface {
	ID() string
	// Record is the job as it is now, perhaps ahead of its record in the file.
	Record() store.Job
	// Begin marks the job as running, on a worker if one is named. It is written with the
	// next commit of the job: one that did nothing yet may as well begin again after a crash.
	Begin(workerID string, at time.Time)
	// Accept makes the job durable if it is not, and blocks for that. A job whose row says
	// Joins is carried out before: call it before anything that takes longer than a commit,
	// and before an event that is no part of RecordRunning's transaction. The error is why
	// the job was not accepted; nothing of it may be done then.
	Accept() error
	// RecordRunning writes that the job is running, unless it has ended, and with it the
	// job itself if Accept has not.
	RecordRunning(b *journal.Batch) error
	// RecordEnd writes that the job has succeeded, in the transaction that records what it
	// was for: one commit less, and no crash can come between. Call it last, for whoever
	// reads that the job has ended must find all the rest. It does nothing if the job was
	// cancelled, or has ended; else it can no longer be cancelled. Whoever carries the job
	// out goes on as ever, and what that returns counts only if nothing came of this.
	RecordEnd(b *journal.Batch, result any) error
	// Finalize makes sure that the job is not cancelled from now on. It returns why if it
	// has been already.
	Finalize(ctx context.Context) error
	// Forget takes back that the job has made a worker: it was not recorded.
	Forget(workerID string)
	// MarkEffective lets those jobs go on that wait for what this one does: its worker can
	// be found, and will take their requests after this one.
	MarkEffective()
	// AwaitTarget blocks until found reports true, or until no earlier job on the same
	// worker is left that could still make one: a spawn whose port a stranger has is
	// between two workers for a moment. The error is why ctx ended.
	AwaitTarget(ctx context.Context, found func() bool) error
}

// Executor carries out operations: those that have effects with a job, the others, which
// only look, without one. A result is what the job's result is made of; an error of an
// operation is an *errdefs.Failure, or why ctx or hive ended.
type Executor interface {
	Spawn(context.Context, Job, Spawn) (any, error)
	StopWorker(context.Context, Job, StopWorker) (any, error)
	RestartWorker(context.Context, Job, RestartWorker) (any, error)
	ProcessDelete(context.Context, Job, ProcessDelete) (any, error)
	Check(context.Context, Job, Check) (any, error)
	Install(context.Context, Job, Install) (any, error)
	Remove(context.Context, Job, Remove) (any, error)
	ModelDownload(context.Context, Job, ModelDownload) (any, error)
	ModelDelete(context.Context, Job, ModelDelete) (any, error)

	ProcessList(context.Context, ProcessList) (any, error)
	ProcessGet(context.Context, ProcessGet) (any, error)
	CatalogList(context.Context, CatalogList) (any, error)
	CatalogGet(context.Context, CatalogGet) (any, error)
	InstalledList(context.Context, InstalledList) (any, error)
	InstalledGet(context.Context, InstalledGet) (any, error)
	ModelList(context.Context, ModelList) (any, error)
	ModelGet(context.Context, ModelGet) (any, error)
}

// Right is who may have an operation carried out, besides admins.
type Right int

// Who may have an operation carried out.
const (
	RightAdmin  Right = iota + 1 // nobody else
	RightRead                    // whoever may look
	RightType                    // whoever may use the worker type that a spawn names
	RightWorker                  // whoever may use the type of the worker that it is about
)

// AfterCrash is what becomes of a job that was running when hive was killed. One that
// was still queued is begun with the next start, whatever its operation.
type AfterCrash int

// What can become of a job that was running when hive was killed.
const (
	FailInterrupted AfterCrash = iota + 1 // it has failed
	AwaitWorker                           // it goes on to wait for its worker, if that lives or is started again
	AwaitStart                            // the same, if this job has started it
	GoOn                                  // it is begun again: what it has done is there
	GoOnToStop                            // it is begun again, unless its worker has been stopped
	StopWorkerToo                         // it has failed, and what it had started is stopped
)

// OnlyHere reports whether the operation must not go on from a state file that was
// copied or restored: the hive that the file is from may carry it out, or may have done
// so.
func (a AfterCrash) OnlyHere() bool { return a == AwaitStart || a == GoOn || a == GoOnToStop }

// Target is the worker that an operation is about, if that is there already: by id or
// name, or by the PID of its main process. The zero value means none.
type Target struct {
	Ref string
	PID int
}

// Is reports whether rec is the worker that is meant.
func (t Target) Is(rec store.Worker) bool {
	if t.PID != 0 {
		return rec.Identity != nil && rec.Identity.PID == t.PID
	}
	return t.Ref != "" && (t.Ref == rec.WorkerID || t.Ref == rec.Name)
}

// Row is all that hive knows about an operation.
type Row struct {
	Fields []string // of its JSON object, besides operation and hive_id
	Decode func(input.Fields) (Operation, error)

	// One of the two is set. Answer only looks: it is answered at once, from memory, and
	// its job is never written.
	Run    func(context.Context, Executor, Job, Operation) (any, error)
	Answer func(context.Context, Executor, Operation) (any, error)

	Result     any // a zero value of what the job's result is made of
	Right      Right
	AfterCrash AfterCrash // 0 with Answer

	// OrderKey names the worker by which jobs are kept in order, if that is not Target.
	OrderKey func(Operation) string
	// Target is nil for what is about no worker that there is already.
	Target func(Operation) Target
	// Pin returns the operation about this worker and no other, whatever has its name later.
	Pin func(op Operation, workerID string) Operation

	// Joins: it is recorded in the transaction of its first effect, which comes at once if
	// nothing has to be waited for. Any other is recorded before it is begun: a restart, too,
	// whose first effect a full disk does not refuse.
	Joins bool

	UsesReserve   bool // it makes room or ends something: a full disk does not refuse it
	CancelOnDrain bool // it starts workers: it is cancelled when all of them are being stopped
	Stops         bool // it wants no more than that its worker ends; see jobs.order
}

// run makes the Run of a row from a method of Executor.
func run[O Operation](do func(Executor, context.Context, Job, O) (any, error)) func(context.Context, Executor, Job, Operation) (any, error) {
	return func(ctx context.Context, e Executor, j Job, op Operation) (any, error) {
		return do(e, ctx, j, op.(O)) //nolint:forcetypeassert // the row is found by the operation's own tag
	}
}

// answer makes the Answer of a row from a method of Executor.
func answer[O Operation](do func(Executor, context.Context, O) (any, error)) func(context.Context, Executor, Operation) (any, error) {
	return func(ctx context.Context, e Executor, op Operation) (any, error) {
		return do(e, ctx, op.(O)) //nolint:forcetypeassert // the row is found by the operation's own tag
	}
}

// looking is the row of an operation that only looks.
func looking[O Operation](do func(Executor, context.Context, O) (any, error), result any, decode func(input.Fields) (Operation, error), fields ...string) Row {
	return Row{Fields: fields, Decode: decode, Answer: answer(do), Result: result, Right: RightRead}
}

// table has a row for every operation that is carried out here, by its tag.
var table = map[string]Row{
	"worker_spawn": {
		Fields: []string{"worker", "model", "device", "name", "port", "params", "wait"}, Decode: decodeSpawn,
		Run: run(Executor.Spawn), Joins: true, Result: Spawned{}, Right: RightType, AfterCrash: AwaitWorker, CancelOnDrain: true,
		OrderKey: func(op Operation) string { return op.(Spawn).Name }, //nolint:forcetypeassert // its row
	},
	"worker_stop": {
		Fields: []string{"worker_id"}, Decode: func(f input.Fields) (Operation, error) { id, err := worker(f); return StopWorker{id}, err },
		Run: run(Executor.StopWorker), Joins: true, Result: Stopped{}, Right: RightWorker, AfterCrash: GoOnToStop, UsesReserve: true, Stops: true,
		Target: func(op Operation) Target { return Target{Ref: op.(StopWorker).WorkerID} }, //nolint:forcetypeassert // its row
		Pin:    func(_ Operation, id string) Operation { return StopWorker{id} },
	},
	"worker_restart": {
		Fields: []string{"worker_id", "if_stale"}, Decode: decodeRestart,
		Run: run(Executor.RestartWorker), Result: Spawned{}, Right: RightWorker, AfterCrash: AwaitStart, CancelOnDrain: true,
		Target: func(op Operation) Target { return Target{Ref: op.(RestartWorker).WorkerID} }, //nolint:forcetypeassert // its row
		Pin: func(op Operation, id string) Operation {
			return RestartWorker{WorkerID: id, IfStale: op.(RestartWorker).IfStale} //nolint:forcetypeassert // its row
		},
	},
	"worker_process_delete": {
		Fields: []string{"pid"}, Decode: func(f input.Fields) (Operation, error) { n, err := pid(f); return ProcessDelete{n}, err },
		Run: run(Executor.ProcessDelete), Joins: true, Result: Stopped{}, Right: RightWorker, AfterCrash: GoOnToStop, UsesReserve: true,
		OrderKey: func(Operation) string { return "" },
		Target:   func(op Operation) Target { return Target{PID: op.(ProcessDelete).PID} }, //nolint:forcetypeassert // its row
	},
	"hive_check": {
		Fields: []string{"alias"}, Decode: func(input.Fields) (Operation, error) { return Check{}, nil },
		Run: run(Executor.Check), Result: Checked{}, Right: RightAdmin, AfterCrash: StopWorkerToo, CancelOnDrain: true,
	},
	"worker_install": {
		Fields: []string{"worker_id"}, Decode: func(f input.Fields) (Operation, error) { id, err := typeID(f); return Install{id}, err },
		Run: run(Executor.Install), Result: InstalledProgram{}, Right: RightAdmin, AfterCrash: FailInterrupted,
	},
	"worker_remove": {
		Fields: []string{"worker_id"}, Decode: func(f input.Fields) (Operation, error) { id, err := typeID(f); return Remove{id}, err },
		Run: run(Executor.Remove), Result: Removed{}, Right: RightAdmin, AfterCrash: FailInterrupted, UsesReserve: true,
	},
	"model_download": {
		Fields: []string{"model"}, Decode: func(f input.Fields) (Operation, error) { id, err := modelID(f, "model"); return ModelDownload{id}, err },
		Run: run(Executor.ModelDownload), Result: ModelEntry{}, Right: RightAdmin, AfterCrash: GoOn,
	},
	"model_delete": {
		Fields: []string{"id"}, Decode: func(f input.Fields) (Operation, error) { id, err := modelID(f, "id"); return ModelDelete{id}, err },
		Run: run(Executor.ModelDelete), Result: Deleted{}, Right: RightAdmin, AfterCrash: FailInterrupted, UsesReserve: true,
	},

	"worker_process_list":   looking(Executor.ProcessList, []Process{}, func(input.Fields) (Operation, error) { return ProcessList{}, nil }),
	"worker_process_get":    looking(Executor.ProcessGet, Process{}, func(f input.Fields) (Operation, error) { n, err := pid(f); return ProcessGet{n}, err }, "pid"),
	"worker_catalog_list":   looking(Executor.CatalogList, CatalogEntries{}, func(input.Fields) (Operation, error) { return CatalogList{}, nil }),
	"worker_catalog_get":    looking(Executor.CatalogGet, CatalogEntry{}, func(f input.Fields) (Operation, error) { id, err := typeID(f); return CatalogGet{id}, err }, "worker_id"),
	"worker_list_installed": looking(Executor.InstalledList, InstalledPrograms{}, func(input.Fields) (Operation, error) { return InstalledList{}, nil }),
	"worker_installed_get":  looking(Executor.InstalledGet, InstalledProgram{}, func(f input.Fields) (Operation, error) { id, err := typeID(f); return InstalledGet{id}, err }, "worker_id"),
	"model_list":            looking(Executor.ModelList, ModelEntries{}, func(input.Fields) (Operation, error) { return ModelList{}, nil }),
	"model_get":             looking(Executor.ModelGet, ModelEntry{}, func(f input.Fields) (Operation, error) { id, err := modelID(f, "id"); return ModelGet{id}, err }, "id"),
}

// unsupported is the row of what is known and not done here: anybody who may look is
// told so.
var unsupported = Row{
	Run: func(_ context.Context, _ Executor, _ Job, op Operation) (any, error) {
		reason := "operation '" + op.Tag() + "' is not supported by a hive"
		if u, ok := op.(Unsupported); ok {
			reason = u.Reason
		}
		return nil, errdefs.Fail(errdefs.CodeUnsupportedOperation, "%s", reason)
	},
	Right: RightRead, AfterCrash: FailInterrupted,
}

// Of returns the row of an operation.
func Of(op Operation) Row { return Named(op.Tag()) }

// Named returns the row of the operation with this tag; that of unsupported operations if
// none is carried out under it here.
func Named(tag string) Row {
	// A recorded job may be of an operation that only another version knows.
	if row, ok := table[tag]; ok {
		return row
	}
	return unsupported
}

// Tags are the names of all operations that are carried out here, sorted.
func Tags() []string { return slices.Sorted(maps.Keys(table)) }

// OrderKey names the worker by which a job of op is kept in order: a spawn's by the name
// that it will have, else by what the request calls it. Empty: it is about none that
// another job could mean.
func OrderKey(op Operation) string {
	row := Of(op)
	switch {
	case row.OrderKey != nil:
		return row.OrderKey(op)
	case row.Target != nil:
		return row.Target(op).Ref
	}
	return ""
}

// TargetOf is the worker that op is about, if that is there already.
func TargetOf(op Operation) Target {
	if row := Of(op); row.Target != nil {
		return row.Target(op)
	}
	return Target{}
}
