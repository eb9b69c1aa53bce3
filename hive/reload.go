package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// ReloadConfig is what a running hive can take over from a configuration.
type ReloadConfig struct {
	Catalog  *catalog.Catalog
	Settings Settings
	// Applied are settings that have changed and that the caller applies itself,
	// NeedStart those that wait for the next start of hive. Both are only repeated
	// in the plan.
	Applied   []string
	NeedStart []string
}

// Plan is what a reload changes. Nothing in it is nil.
type Plan struct {
	DryRun    bool // it was only asked for: nothing was changed
	Types     []TypeChange
	Workers   []WorkerChange
	Autostart []string // types of which a worker is started, none of theirs being alive
	Applied   []string // settings, as keys of the file
	NeedStart []string // settings that have changed and wait for the next start of hive
}

// Applies reports whether a setting is among those that were applied.
func (p Plan) Applies(key string) bool { return slices.Contains(p.Applied, key) }

// TypeChange is a worker type that is not as it was.
type TypeChange struct {
	Name   string
	Change TypeEdit
	Keys   []string // of the entry, for TypeChanged; never values
}

// TypeEdit says what was done to a type.
type TypeEdit string

// What can be done to a type.
const (
	TypeAdded   TypeEdit = "added"
	TypeRemoved TypeEdit = "removed"
	TypeChanged TypeEdit = "changed"
)

// WorkerChange is a live worker that a reload concerns.
type WorkerChange struct {
	WorkerID string
	Name     string
	Type     string
	Port     uint16
	Action   Action
	Reason   string // for a person
}

// Action is what becomes of a worker.
type Action string

// What can become of a worker.
const (
	ActionStale   Action = "stale"   // it goes on as it is, and is marked
	ActionRestart Action = "restart" // it is stale, and its type says reload: restart
	ActionCurrent Action = "current" // it is not stale any more: its type is again what it was started as
)

// reviewPatience is how long a reload waits for supervisors that are busy.
const reviewPatience = 2 * time.Second

// Reload replaces the worker types and what else can be changed while the hive
// runs, and says what that changes; with dryRun it only says so. Running workers
// go on. When it returns, stale workers are marked, but for those that are just
// being stopped or started, which are when that is over; restarts and autostarts
// have begun. A start that is under way is by the old types or the new ones, as a
// whole.
//
// One reload runs at a time, others wait. It blocks for the looks at the workers
// it concerns, a few seconds at most. Errors: ErrRecovering, ErrClosed, and ctx's
// while it waits; nothing is changed then.
func (h *Hive) Reload(ctx context.Context, next ReloadConfig, dryRun bool) (Plan, error) {
	if next.Catalog == nil {
		return Plan{}, errors.New("hive: no catalog of worker types given")
	}
	if err := h.reloads.Acquire(ctx, 1); err != nil {
		return Plan{}, err
	}
	defer h.reloads.Release(1)
	switch {
	case !h.spawnable():
		return Plan{}, ErrClosed
	case !h.serving.Load():
		return Plan{}, ErrRecovering
	}
	next.Settings.complete()
	plan := h.planReload(next)
	plan.DryRun = dryRun
	if dryRun {
		return plan, nil
	}
	if err := h.queens.Configure(next.Settings.QueenURL); err != nil {
		return Plan{}, &InputError{Kind: ErrInvalidConfiguration, Field: "queen_url", Detail: err.Error()}
	}
	h.tuning.Store(&next.Settings)
	h.alloc.SetFixed(next.Catalog.FixedPorts())
	h.catalog.Store(next.Catalog)
	h.tellReloaded(plan)
	h.reviewAll(plan.Workers)
	if len(plan.Autostart) > 0 {
		h.spawnGoroutine(h.autostart)
	}
	return plan, nil
}

// tellReloaded writes the event of a reload. That it cannot be written is no reason
// to refuse the reload.
func (h *Hive) tellReloaded(p Plan) {
	types := []string{}
	for _, t := range p.Types {
		types = append(types, t.Name)
	}
	message := "configuration reloaded: nothing has changed"
	if len(types)+len(p.Applied)+len(p.NeedStart) > 0 {
		message = fmt.Sprintf("configuration reloaded: %d types and %d settings have changed, %d settings wait for the next start of hive",
			len(types), len(p.Applied), len(p.NeedStart))
	}
	err := h.tidy(func(b *batch) error {
		return b.event(store.EventState, "", "", message, map[string]any{
			"hive": "reloaded", "types": types, "applied": p.Applied, "need_start": p.NeedStart,
		})
	})
	if err != nil {
		h.logUnlessClosing(err, "record a reload", "")
	}
}

func (h *Hive) planReload(next ReloadConfig) Plan {
	plan := Plan{
		Types: typeChanges(h.types(), next.Catalog), Workers: []WorkerChange{}, Autostart: []string{},
		Applied:   append(h.settings().changes(next.Settings), next.Applied...),
		NeedStart: append([]string{}, next.NeedStart...),
	}
	slices.Sort(plan.Applied)
	slices.Sort(plan.NeedStart)
	for _, w := range h.judgeable() {
		if c, ok := w.changeBy(next.Catalog); ok {
			plan.Workers = append(plan.Workers, c)
		}
	}
	for _, typ := range next.Catalog.Types() {
		if typ.Autostart && h.missing(typ.Name) {
			plan.Autostart = append(plan.Autostart, typ.Name)
		}
	}
	return plan
}

// typeChanges compares two catalogs, by name.
func typeChanges(old, next *catalog.Catalog) []TypeChange {
	changes := []TypeChange{}
	names := map[string]bool{}
	for _, t := range slices.Concat(old.Types(), next.Types()) {
		names[t.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, had := old.Type(name)
		is, has := next.Type(name)
		switch {
		case !had:
			changes = append(changes, TypeChange{name, TypeAdded, []string{}})
		case !has:
			changes = append(changes, TypeChange{name, TypeRemoved, []string{}})
		default:
			if c := was.Changes(is); !c.None() {
				changes = append(changes, TypeChange{name, TypeChanged, c.All()})
			}
		}
	}
	return changes
}

// judgeable returns the live workers that a reload may concern, by port: those
// that have a verified process, or wait for their next start, and are to live.
func (h *Hive) judgeable() []*worker {
	list := slices.DeleteFunc(h.stoppable(), func(w *worker) bool {
		rec := w.record()
		return rec.State == store.WorkerUnverified || rec.State.Ended() || rec.Desired == store.DesiredStopped
	})
	slices.SortFunc(list, func(a, b *worker) int { return byPort(a.record(), b.record()) })
	return list
}

// changeBy says what becomes of a worker with other types, if anything does.
func (w *worker) changeBy(next *catalog.Catalog) (WorkerChange, bool) {
	rec := w.record()
	d := w.differs(next)
	c := WorkerChange{WorkerID: rec.WorkerID, Name: rec.Name, Type: rec.Type, Port: rec.Port, Action: ActionStale}
	if typ, ok := next.Type(rec.Type); d.stale && ok && typ.Reload && !w.inherited.Load() {
		c.Action = ActionRestart
	}
	if !d.stale {
		c.Action, c.Reason = ActionCurrent, "its type is what it was started as"
		return c, rec.Stale
	}
	c.Reason = d.why(rec.Type)
	return c, c.Action == ActionRestart || !rec.Stale || !slices.Equal(d.keys, rec.Changed)
}

// reviewAll has the supervisors of these workers look at their types.
func (h *Hive) reviewAll(changes []WorkerChange) {
	ctx, cancel := context.WithTimeout(h.ctx, reviewPatience)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range changes {
		if w := h.liveWorker(c.WorkerID); w != nil {
			wg.Go(func() { w.review(ctx) })
		}
	}
	wg.Wait()
}
