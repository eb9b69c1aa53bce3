package hive

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/catalog"
	"rbeehive/hive/logs"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// spawnTries is how many ports a spawn tries when strangers hold them.
const spawnTries = 3

// runSpawn carries out worker_spawn.
func (h *Hive) runSpawn(ctx context.Context, j *job, op Spawn) (any, error) {
	typ, ok := h.types().Type(op.Worker)
	if !ok {
		return nil, fail(CodeProgramNotFound, "worker type %q is no longer configured", op.Worker)
	}
	w, err := h.spawnAndFollow(ctx, j, typ, op)
	if err != nil {
		return nil, err
	}
	return resultOf(w.record()), nil
}

// spawnAndFollow starts a worker and waits for what op asks. When a stranger
// turns out to listen on the port, another port is tried.
func (h *Hive) spawnAndFollow(ctx context.Context, j *job, typ *catalog.Type, op Spawn) (*worker, error) {
	if err := h.claimName(op.Name, j.id()); err != nil {
		return nil, err
	}
	defer h.unclaimName(op.Name)
	for try := 1; ; try++ {
		w, err := h.spawn(ctx, j, typ, h.newRecord(j, typ, op))
		if err != nil {
			return nil, err
		}
		j.takesEffect()
		if op.Wait == WaitStarted {
			return w, nil
		}
		err = h.awaitReady(ctx, j, w)
		var f *failure
		if errors.As(err, &f) && f.Code == CodeForeignListener && op.Port == 0 && typ.Port == 0 && try < spawnTries {
			continue
		}
		return w, err
	}
}

// awaitReady waits until the worker is ready. A cancelled job stops it.
func (h *Hive) awaitReady(ctx context.Context, j *job, w *worker) error {
	select {
	case <-w.whenSettled():
	case <-ctx.Done():
		if h.ctx.Err() != nil {
			return errClosing
		}
		if err := w.requestStop(h.ctx, stopRequest{jobID: j.id(), reason: "the job that started it was cancelled"}); err != nil {
			return err
		}
		if w.failure != nil {
			return w.failure // it could not be stopped wholly, or had failed before
		}
		return context.Cause(ctx)
	}
	select {
	case <-w.ended:
	default:
		return nil
	}
	if w.failure != nil {
		return w.failure
	}
	return fail(CodeCancelled, "the worker was stopped on request before it was ready")
}

// spawn starts one worker by the protocol of the spawn gate: the process
// exists and waits, then one transaction records it, then its program runs. A rec
// with an id is of a worker that has ended and is started again, on its ports.
func (h *Hive) spawn(ctx context.Context, j *job, typ *catalog.Type, rec store.Worker) (*worker, error) {
	begun := time.Now()
	if err := h.spawns.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	if ctx.Err() != nil { // Acquire may not have looked
		h.spawns.Release(1)
		return nil, context.Cause(ctx)
	}
	defer h.spawns.Release(1)
	defer h.holdModel(typ, rec)()
	if _, err := h.prepare(ctx, typ, &rec); err != nil { // the common mistakes cost no process and no commit
		return nil, err
	}
	req := alloc.Request{Port: rec.Asked.Port, Ports: typ.Ports, Name: rec.Name, Host: typ.Host()}
	if rec.WorkerID != "" {
		req.Port, req.Ports = rec.Port, len(rec.Ports)
	}
	res, err := h.alloc.Acquire(ctx, req)
	if err != nil {
		return nil, portFailure(ctx, err)
	}
	if rec.WorkerID == "" {
		rec.WorkerID = fmt.Sprintf("%s-%d-%s", typ.Name, res.Port, strings.ToLower(rand.Text()[:6]))
	}
	rec.Port, rec.Ports, rec.Log = res.Port, res.Ports, h.logs.Path(rec.WorkerID)
	env, err := h.prepare(ctx, typ, &rec)
	if err == nil {
		err = h.beforeStart(ctx, typ, rec, env)
	}
	if err != nil {
		res.Abandon()
		dropLog(rec)
		return nil, err
	}
	defer h.logs.Claim(rec.WorkerID)()
	gated, err := proc.Start(h.procSpec(rec, env))
	if err != nil {
		res.Abandon()
		dropLog(rec)
		return nil, fail(CodeExecFailed, "start %s: %v", rec.Spec.Argv[0], err)
	}
	id := embodied(&rec, gated)
	logs.Printf(rec.Log, "started pid %d port %d %s", id.PID, rec.Port, rec.StartedAt.Format(time.RFC3339))
	defer h.opens(rec)()
	if err := h.recordSpawn(ctx, j, res, rec); err != nil {
		gated.Abort()
		res.Abandon()
		j.forget(rec.WorkerID)
		dropLog(rec)
		return nil, err
	}
	return h.openGate(gated, rec, typ, begun)
}

// embodied puts into the record what hive has started, and returns its identity.
func embodied(rec *store.Worker, g *proc.Gated) store.Identity {
	id, uid := g.Identity(), g.UID()
	rec.Identity, rec.Cgroup, rec.StampUID = &id, g.Cgroup(), &uid
	return id
}

// dropLog removes the log of a worker that there is not going to be.
func dropLog(rec store.Worker) {
	if rec.Restarts == 0 {
		_ = os.Remove(rec.Log)
	}
}

// newRecord is the record of a worker that has no port yet.
func (h *Hive) newRecord(j *job, typ *catalog.Type, op Spawn) store.Worker {
	return store.Worker{
		Name: op.Name, Type: typ.Name, Port: h.cfg.Ports.Range.First,
		LeaseID: uuid.Must(uuid.NewV7()).String(),
		Asked:   store.Asked{Model: op.Model, Device: op.Device, Params: op.Params, Port: cmp.Or(op.Port, typ.Port)},
		State:   store.WorkerSpawning, Desired: store.DesiredRunning,
		JobID: j.id(), StartedAt: time.Now().UTC(),
	}
}

// recordSpawn is the one transaction of a spawn: lease, PID mapping, worker,
// job and events become durable together, while the process waits at its gate.
func (h *Hive) recordSpawn(ctx context.Context, j *job, res *alloc.Reservation, rec store.Worker) error {
	return h.write(ctx, j.op, func(b *batch) error {
		lease := store.Lease{
			Port: rec.Port, LeaseID: rec.LeaseID, Kind: store.LeaseWorker, WorkerID: rec.WorkerID, Owner: rec.Name,
			Identity: rec.Identity, Cgroup: rec.Cgroup, StampUID: rec.StampUID, State: store.LeaseHeld, AcquiredAt: b.Now(),
		}
		if err := res.Record(b.Tx, lease); err != nil {
			return err
		}
		if err := b.PutWorker(rec); err != nil {
			return err
		}
		if err := b.PutJob(j.begin(rec.WorkerID, b.Now())); err != nil {
			return err
		}
		if err := b.event(store.EventPort, rec.JobID, rec.WorkerID, portMessage(res, rec), map[string]any{
			"port": rec.Port, "ports": rec.Ports, "lease_id": rec.LeaseID, "skipped": skippedPorts(res.Skipped),
		}); err != nil {
			return err
		}
		return b.event(store.EventProcess, rec.JobID, rec.WorkerID, fmt.Sprintf("%s started as pid %d", rec.WorkerID, rec.Identity.PID),
			map[string]any{"pid": rec.Identity.PID, "worker_id": rec.WorkerID, "log": rec.Log})
	})
}

// portMessage says which port was leased, and who holds those passed over.
func portMessage(res *alloc.Reservation, rec store.Worker) string {
	var b strings.Builder
	if res.NameMoved {
		fmt.Fprintf(&b, "%s had port %d last time, which is not free; ", rec.Name, res.Former)
	}
	for _, s := range res.Skipped {
		fmt.Fprintf(&b, "%d is held by %s; ", s.Port, s)
	}
	ports := alloc.Range{First: rec.Port, Last: rec.Ports[len(rec.Ports)-1]}
	switch {
	case b.Len() > 0:
		return fmt.Sprintf("%stook %s", b.String(), ports)
	case len(rec.Ports) > 1:
		return fmt.Sprintf("ports %s leased", ports)
	}
	return fmt.Sprintf("port %d leased", rec.Port)
}

func skippedPorts(skipped []sockets.Holder) []uint16 {
	ports := []uint16{}
	for _, s := range skipped {
		ports = append(ports, s.Port)
	}
	return ports
}

// openGate lets the program run and hands the worker, whose start was begun then,
// to a supervisor.
func (h *Hive) openGate(gated *proc.Gated, rec store.Worker, typ *catalog.Type, begun time.Time) (*worker, error) {
	p, err := letGo(gated)
	if err != nil {
		w := h.newWorker(rec, nil, typ)
		f := fail(CodeExecFailed, "%v", err)
		w.finish(outcome{then: thenFail, reason: f.Message, jobID: rec.JobID, failure: f}, remains{})
		return nil, f
	}
	rec.State = store.WorkerRunning // rides on the next commit
	h.metrics.spawned(WaitStarted, begun)
	w := h.newWorker(rec, p, typ)
	w.begun = begun
	h.enlist(w)
	h.forget(rec.WorkerID) // among the dead, where it may have been
	w.follow(firstLook)
	return w, nil
}

// openLimit is how long it may take to enter a working directory and to execute a
// program: on a file system that hangs, or that the user of the worker has made hang.
const openLimit = 30 * time.Second

// letGo lets a program run. Not with a job's context: between the byte and the execve
// nobody could say whether the program runs. When the time is over it is ended,
// whatever it is.
func letGo(gated *proc.Gated) (*proc.Process, error) {
	p, err := openWithin(gated, openLimit)
	if errors.Is(err, context.DeadlineExceeded) { // hive itself may have been frozen meanwhile
		p, err = openWithin(gated, time.Second)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		gated.Abort()
		return nil, fmt.Errorf("not executed within %s", openLimit)
	}
	return p, err
}

func openWithin(gated *proc.Gated, d time.Duration) (*proc.Process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return gated.Open(ctx)
}

func portFailure(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, alloc.ErrExhausted):
		return fail(CodePortsExhausted, "%v", err)
	case errors.Is(err, alloc.ErrUnavailable):
		return fail(CodePortUnavailable, "%v", err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}
