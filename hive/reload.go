package hive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/setting"
	"rbeehive/hive/supervisor"
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

// compareTimeout is how long a reload waits for supervisors that are busy.
const compareTimeout = 2 * time.Second

// Reload replaces the worker types and what else can be changed while the hive
// runs, and says what that changes; with dryRun it only says so. Running workers
// go on. When it returns, stale workers are marked, but for those that are just
// being stopped or started, which are when that is over; restarts and autostarts
// have begun. A start that is under way is by the old types or the new ones, as a
// whole.
//
// One reload runs at a time, others wait. It blocks for the looks at the workers
// it concerns, a few seconds at most. Errors: errdefs.ErrRecovering, errdefs.ErrClosed, and ctx's
// while it waits; nothing is changed then.
func (h *Hive) Reload(ctx context.Context, next ReloadConfig, dryRun bool) (Plan, error) {
	if next.Catalog == nil {
		return Plan{}, errors.New("hive: no catalog of worker types given")
	}
	if err := h.upkeep.reloads.Acquire(ctx, 1); err != nil {
		return Plan{}, err
	}
	defer h.upkeep.reloads.Release(1)
	switch {
	case !h.run.Accepting():
		return Plan{}, errdefs.ErrClosed
	case !h.run.Serving():
		return Plan{}, errdefs.ErrRecovering
	}
	// Before the plan: a key that was left out equals its default.
	setting.Complete(&next.Settings)
	plan := h.planReload(ctx, next)
	plan.DryRun = dryRun
	if dryRun {
		return plan, nil
	}
	// The only step that can fail comes first, so that a reload is made wholly or not at all.
	if err := h.queens.Configure(next.Settings.QueenURL); err != nil {
		return Plan{}, &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Field: "queen_url", Detail: err.Error()}
	}
	h.current.settings.Store(&next.Settings)
	// Before the catalog: a port that a new type promises must not be given to others in between.
	h.alloc.SetFixed(next.Catalog.FixedPorts())
	h.current.catalog.Store(next.Catalog)
	h.recordReload(plan)
	// After the catalog, with which supervisors compare.
	h.upkeep.compareAll(plan.Workers)
	h.upkeep.services.Begin()
	h.run.Go(func() { h.types.LearnPackages(h.run.Context()) })
	return plan, nil
}

// SetReloadFault notes why a reload of the configuration has failed, for who asks later;
// empty: it has not. What can fail before Reload is called is the caller's.
func (h *Hive) SetReloadFault(why string) { h.upkeep.reloadFault.Store(&why) }

// ReloadFault is why the last reload of the configuration failed; empty: it did not.
func (h *Hive) ReloadFault() string {
	if why := h.upkeep.reloadFault.Load(); why != nil {
		return *why
	}
	return ""
}

// recordReload writes the event of a reload. That it cannot be written is no reason
// to refuse the reload.
func (h *Hive) recordReload(p Plan) {
	types := []string{}
	for _, t := range p.Types {
		types = append(types, t.Name)
	}
	message := "configuration reloaded: nothing has changed"
	if len(types)+len(p.Applied)+len(p.NeedStart) > 0 {
		message = fmt.Sprintf("configuration reloaded: %d types and %d settings have changed, %d settings wait for the next start of hive",
			len(types), len(p.Applied), len(p.NeedStart))
	}
	err := h.journal.CommitBestEffort(func(b *journal.Batch) error {
		return b.Event(store.EventState, "", "", message, map[string]any{
			"hive": "reloaded", "types": types, "applied": p.Applied, "need_start": p.NeedStart,
		})
	})
	h.journal.LogUnlessClosing(err, "record a reload", "")
}

func (h *Hive) planReload(ctx context.Context, next ReloadConfig) Plan {
	now := h.settings()
	plan := Plan{
		Types: typeChanges(h.current.types(), next.Catalog), Workers: []WorkerChange{}, Autostart: []string{},
		Applied:   append(setting.Changed(&now, &next.Settings), next.Applied...),
		NeedStart: append([]string{}, next.NeedStart...),
	}
	slices.Sort(plan.Applied)
	slices.Sort(plan.NeedStart)
	for _, c := range h.supervisor.Changes(ctx, next.Catalog) {
		if !c.Recorded {
			plan.Workers = append(plan.Workers, workerChange(c))
		}
	}
	for _, typ := range next.Catalog.Types() {
		if typ.Autostart && h.supervisor.Missing(typ.Name) {
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

func workerChange(c supervisor.Change) WorkerChange {
	w := WorkerChange{WorkerID: c.Worker.WorkerID, Name: c.Worker.Name, Type: c.Worker.Type, Port: c.Worker.Port, Action: ActionCurrent, Reason: c.Why}
	switch {
	case c.Restart:
		w.Action = ActionRestart
	case c.Stale:
		w.Action = ActionStale
	}
	return w
}

// compareAll has the supervisors of these workers compare them with their types.
func (u *upkeep) compareAll(changes []WorkerChange) {
	// Not the caller's context: the reload has been made, whether or not they still wait.
	ctx, cancel := context.WithTimeout(u.run.Context(), compareTimeout)
	defer cancel()
	var ids []string
	for _, c := range changes {
		ids = append(ids, c.WorkerID)
	}
	u.supervisor.Compare(ctx, ids)
}
