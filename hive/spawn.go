package hive

import (
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
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// spawnTries is how many ports a spawn tries when strangers hold them.
const spawnTries = 3

// spawned is the result of worker_spawn.
type spawned struct {
	WorkerID string   `json:"worker_id"`
	Name     *string  `json:"name"`
	Port     uint16   `json:"port"`
	Ports    []uint16 `json:"ports"`
	PID      int      `json:"pid"`
	URL      string   `json:"url"`
	LeaseID  string   `json:"lease_id"`
	Status   string   `json:"status"`
}

func resultOf(rec store.Worker) spawned {
	s := spawned{
		WorkerID: rec.WorkerID, Name: orNull(rec.Name), Port: rec.Port, Ports: rec.Ports,
		URL: URL(rec), LeaseID: rec.LeaseID, Status: "starting",
	}
	if rec.Identity != nil {
		s.PID = rec.Identity.PID
	}
	if rec.State == store.WorkerReady {
		s.Status = "ready"
	}
	return s
}

// runSpawn carries out worker_spawn.
func (h *Hive) runSpawn(ctx context.Context, j *job, op Spawn) (any, error) {
	typ, ok := h.cfg.Catalog.Type(op.Worker)
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
		w, err := h.spawn(ctx, j, typ, op)
		if err != nil {
			return nil, err
		}
		if op.Wait == WaitStarted {
			return w, nil
		}
		err = h.awaitReady(ctx, j, w)
		var f *failure
		if errors.As(err, &f) && f.Code == CodeForeignListener && op.Port == 0 && try < spawnTries {
			continue
		}
		return w, err
	}
}

// awaitReady waits until the worker is ready. A cancelled job stops it.
func (h *Hive) awaitReady(ctx context.Context, j *job, w *worker) error {
	select {
	case <-w.settled:
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
// exists and waits, then one transaction records it, then its program runs.
func (h *Hive) spawn(ctx context.Context, j *job, typ *catalog.Type, op Spawn) (*worker, error) {
	if err := h.spawns.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	if ctx.Err() != nil { // Acquire may not have looked
		h.spawns.Release(1)
		return nil, context.Cause(ctx)
	}
	defer h.spawns.Release(1)
	program, err := h.program(typ, op)
	if err != nil {
		return nil, err
	}
	res, err := h.alloc.Acquire(ctx, alloc.Request{Port: op.Port, Name: op.Name, Host: typ.Host()})
	if err != nil {
		return nil, portFailure(ctx, err)
	}
	rec, env, err := h.newRecord(j, typ, op, program, res.Port)
	if err != nil {
		res.Abandon()
		return nil, err
	}
	defer h.logs.starts(rec.WorkerID)()
	gated, err := proc.Start(h.procSpec(rec, env))
	if err != nil {
		res.Abandon()
		_ = os.Remove(rec.Log)
		return nil, fail(CodeExecFailed, "start %s: %v", program, err)
	}
	id := gated.Identity()
	rec.Identity, rec.Cgroup = &id, gated.Cgroup()
	logLine(rec.Log, "started pid %d port %d %s", id.PID, rec.Port, rec.StartedAt.Format(time.RFC3339))
	if err := h.recordSpawn(ctx, j, res, rec); err != nil {
		gated.Abort()
		res.Abandon()
		j.forget(rec.WorkerID)
		_ = os.Remove(rec.Log)
		return nil, err
	}
	return h.openGate(gated, rec)
}

// program finds the program of a worker before anything is leased: the common
// mistake costs no process and no commit.
func (h *Hive) program(typ *catalog.Type, op Spawn) (string, error) {
	if why := typ.Unavailable(); why != "" {
		return "", fail(CodeProgramNotFound, "%s", why)
	}
	spec, err := typ.Render(h.values(op, "", h.cfg.Ports.Range.First))
	if err != nil {
		return "", fail(CodeExecFailed, "the command of worker type %q: %v", typ.Name, err)
	}
	path, err := proc.LookPath(spec.Argv[0], "")
	if err != nil {
		return "", fail(CodeProgramNotFound, "%s", strings.TrimPrefix(err.Error(), proc.ErrProgramNotFound.Error()+": "))
	}
	return path, nil
}

func (h *Hive) values(op Spawn, workerID string, port uint16) catalog.Values {
	return catalog.Values{
		Port: port, Ports: []uint16{port}, Model: op.Model, Device: op.Device, WorkerID: workerID, Name: op.Name,
		QueenURL: h.cfg.QueenURL, HiveURL: h.cfg.URL, Params: op.Params,
	}
}

func (h *Hive) newRecord(j *job, typ *catalog.Type, op Spawn, program string, port uint16) (store.Worker, []string, error) {
	rec := store.Worker{
		WorkerID: fmt.Sprintf("%s-%d-%s", typ.Name, port, strings.ToLower(rand.Text()[:6])),
		Name:     op.Name, Type: typ.Name, Port: port, Ports: []uint16{port},
		LeaseID: uuid.Must(uuid.NewV7()).String(),
		State:   store.WorkerSpawning, Desired: store.DesiredRunning,
		JobID: j.id(), StartedAt: time.Now().UTC(),
	}
	rec.Log = h.logPath(rec.WorkerID)
	var err error
	if rec.Spec, err = typ.Render(h.values(op, rec.WorkerID, port)); err != nil {
		return rec, nil, fail(CodeExecFailed, "the command of worker type %q: %v", typ.Name, err)
	}
	rec.Spec.Argv[0] = program
	return rec, proc.Environ(os.Environ(), typ.Env()), nil
}

func (h *Hive) procSpec(rec store.Worker, env []string) proc.Spec {
	cgroup := ""
	if h.cgroups {
		cgroup = rec.WorkerID
	}
	return proc.Spec{
		Argv: rec.Spec.Argv, Env: env, Dir: rec.Spec.Dir, Log: rec.Log, Cgroup: cgroup,
		StateID: h.store.Meta().StateID, LeaseID: rec.LeaseID, WorkerID: rec.WorkerID,
	}
}

// recordSpawn is the one transaction of a spawn: lease, PID mapping, worker,
// job and events become durable together, while the process waits at its gate.
func (h *Hive) recordSpawn(ctx context.Context, j *job, res *alloc.Reservation, rec store.Worker) error {
	return h.write(ctx, j.op, func(b *batch) error {
		lease := store.Lease{
			Port: rec.Port, LeaseID: rec.LeaseID, Kind: store.LeaseWorker, WorkerID: rec.WorkerID, Owner: rec.Name,
			Identity: rec.Identity, Cgroup: rec.Cgroup, State: store.LeaseHeld, AcquiredAt: b.Now(),
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
			"port": rec.Port, "lease_id": rec.LeaseID, "skipped": skippedPorts(res.Skipped),
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
		fmt.Fprintf(&b, "%d is held by %s; ", s.Port, holderText(s))
	}
	if b.Len() > 0 {
		return fmt.Sprintf("%stook %d", b.String(), rec.Port)
	}
	return fmt.Sprintf("port %d leased", rec.Port)
}

func holderText(s sockets.Holder) string {
	if s.PID == 0 {
		return "another process"
	}
	return fmt.Sprintf("%s (pid %d, user %s)", s.Program, s.PID, s.User)
}

func skippedPorts(skipped []sockets.Holder) []uint16 {
	ports := []uint16{}
	for _, s := range skipped {
		ports = append(ports, s.Port)
	}
	return ports
}

// openGate lets the program run and hands the worker to a supervisor.
func (h *Hive) openGate(gated *proc.Gated, rec store.Worker) (*worker, error) {
	// Not with a context that ends: between the byte and the execve nobody
	// could say whether the program runs.
	p, err := gated.Open(context.Background())
	if err != nil {
		w := h.newWorker(rec, nil)
		f := fail(CodeExecFailed, "%v", err)
		w.finish(outcome{state: store.WorkerFailed, reason: f.Message, jobID: rec.JobID, failure: f}, remains{})
		return nil, f
	}
	rec.State = store.WorkerRunning // rides on the next commit
	w := h.newWorker(rec, p)
	h.enlist(w)
	w.follow(firstLook)
	return w, nil
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
