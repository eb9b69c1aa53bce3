package hive

import (
	"context"
	"slices"
	"sync"

	"rbeehive/store"
)

// lines keep the jobs on one worker in the order in which they were submitted. A
// job waits for an earlier one only as long as it must to have its effect after
// that one's: a stop does not wait until the worker that it stops is ready.
type lines struct {
	mu   sync.Mutex
	jobs map[string][]*job // unfinished, by what lineOf says, in order
}

// join places j behind the others of its line; empty: it has none.
func (l *lines) join(j *job, line string) {
	if j.line = line; line == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs[line] = append(l.jobs[line], j)
}

func (l *lines) leave(j *job) {
	if j.line == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := slices.DeleteFunc(l.jobs[j.line], func(other *job) bool { return other == j })
	if l.jobs[j.line] = rest; len(rest) == 0 {
		delete(l.jobs, j.line)
	}
}

// blocker returns the nearest job before j in its line that j must not overtake,
// and that has neither ended nor had its effect; nil: it is j's turn. The nearest
// has waited for those before it: there may be thousands, and each waits once.
func (l *lines) blocker(j *job) *job {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.jobs[j.line]
	for _, other := range slices.Backward(line[:max(0, slices.Index(line, j))]) {
		select {
		case <-other.passed(j):
		default:
			return other
		}
	}
	return nil
}

// first returns the first job of j's line; nil if that is j, or it has none.
func (l *lines) first(j *job) *job {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line := l.jobs[j.line]; len(line) > 0 && line[0] != j {
		return line[0]
	}
	return nil
}

// lineOf names the worker that an operation is about: by its name, which it has
// before it exists, else by its id. Empty: about none that others could mean.
func (h *Hive) lineOf(op Operation) string {
	ref := ""
	switch op := op.(type) {
	case Spawn:
		return op.Name
	case StopWorker:
		ref = op.WorkerID
	case RestartWorker:
		ref = op.WorkerID
	default:
		return ""
	}
	if rec, err := h.Worker(ref); err == nil && rec.Name != "" {
		return rec.Name
	}
	return ref
}

// awaitTurn blocks until those jobs of its line that j must not overtake have had
// their effect, or ended. If that takes a while j's story says what it waits for.
func (h *Hive) awaitTurn(ctx context.Context, j *job) error {
	for other := h.lines.blocker(j); other != nil; other = h.lines.blocker(j) {
		err := h.tidy(func(b *batch) error {
			return b.event(store.EventState, j.id(), "", "waits for "+other.op.Tag()+" "+other.id()+" of the same worker",
				map[string]any{"job": store.JobQueued, "waits_for": other.id()})
		})
		if err != nil {
			h.logUnlessClosing(err, "record that a job waits", j.id())
		}
		select {
		case <-other.passed(j):
		case <-other.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// passed returns a channel that is closed when other need not wait for j any more,
// if j does not end before.
func (j *job) passed(other *job) <-chan struct{} {
	_, stops := other.op.(StopWorker)
	_, stopping := j.op.(StopWorker)
	switch {
	case stops && stopping:
		return closed() // both want the same
	case stopping:
		return j.done // its worker has a name, a port and a lease until the stop is over
	}
	return j.effect(0)
}

// opening is a worker that is recorded, so that events name it, and whose program
// is about to run: only then it is among the live ones.
type opening struct {
	rec  store.Worker
	over chan struct{}
}

// opens notes that a worker is about to be recorded, and returns the end of that.
func (h *Hive) opens(rec store.Worker) (over func()) {
	o := opening{rec, make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opening[rec.LeaseID] = o
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.opening, rec.LeaseID)
		close(o.over)
	}
}

// awaitOpening blocks until the worker that op is about is among the live ones, if
// it is just being started: who has its id or PID from an event must find it.
func (h *Hive) awaitOpening(ctx context.Context, op Operation) error {
	var wait []opening
	h.mu.Lock()
	for _, o := range h.opening {
		if means(op, o.rec) {
			wait = append(wait, o)
		}
	}
	h.mu.Unlock()
	for _, o := range wait {
		select {
		case <-o.over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// means reports whether op is about a worker that there is already.
func means(op Operation, rec store.Worker) bool {
	ref := ""
	switch op := op.(type) {
	case StopWorker:
		ref = op.WorkerID
	case RestartWorker:
		ref = op.WorkerID
	case ProcessDelete:
		return rec.Identity != nil && rec.Identity.PID == op.PID
	}
	return ref != "" && (ref == rec.WorkerID || ref == rec.Name)
}

// awaitWorker finds the worker of a stop. If there is none it blocks until nothing
// is ahead of j that could still make one: a spawn whose port a stranger has is
// between two workers for a moment. Nil: there is none.
func (h *Hive) awaitWorker(ctx context.Context, j *job, find func() *worker) (*worker, error) {
	for {
		other := h.lines.first(j)
		if other == nil {
			return find(), nil
		}
		seen := other.effects()
		if w := find(); w != nil {
			return w, nil
		}
		select {
		case <-other.effect(seen):
		case <-other.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// effects is how often the job has had the effect that others wait for.
func (j *job) effects() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.effected
}

// effect returns a channel that is closed once effects is more than seen.
func (j *job) effect(seen int) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.effected > seen {
		return closed()
	}
	return j.changed
}

func closed() <-chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}

// takesEffect lets those go on that wait for what the job does: its worker can be
// found and will take their requests after this one.
func (j *job) takesEffect() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.effected++
	close(j.changed)
	j.changed = make(chan struct{})
}
