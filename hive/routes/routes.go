package routes

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"rbeehive/hive/catalog"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// Stopped is the state of a route without a live worker.
const Stopped = "stopped"

// Route is a model that can be asked for.
type Route struct {
	Name     string   // as it is shown: the worker's name, else the entry's, else the model
	Names    []string // all that lead to it, Name first
	Type     string
	State    string // a worker's public state, the best there is; Stopped without one
	Reason   string // why it is in that state; may be empty
	Replicas []Replica
}

// Replica is a ready worker of a route.
type Replica struct {
	supervisor.Proof

	// EngineModel is what the model is called in requests to it; empty: as the caller calls it.
	EngineModel string
}

// Workers is what is needed of the supervisor.
type Workers interface {
	Workers() []store.Worker
	Prove(ctx context.Context, ref string) (supervisor.Proof, error)
}

// Table makes the routes. Its methods are safe for concurrent use.
type Table struct {
	workers Workers
	types   func() *catalog.Catalog
	proofs  atomic.Pointer[map[string]supervisor.Proof] // the last ones, by worker; nil: none yet
}

// New returns a table without any proof.
func New(workers Workers, types func() *catalog.Catalog) *Table {
	return &Table{workers: workers, types: types}
}

// Routes returns all routes, by name. It proves the listeners of replicas that are new, which
// blocks for reads of /proc; a ready worker whose listeners cannot be proven is no replica. The error is
// ctx's.
func (t *Table) Routes(ctx context.Context) ([]Route, error) {
	workers, types := t.workers.Workers(), t.types()
	proofs, err := t.prove(ctx, workers, types)
	if err != nil {
		return nil, err
	}
	return assemble(types, workers, proofs), nil
}

// Prove proves the listeners of a worker, given by id, anew. Its errors are those of supervisor.Supervisor.Prove;
// the worker is no replica then until its proof succeeds.
func (t *Table) Prove(ctx context.Context, ref string) (Replica, error) {
	p, err := t.workers.Prove(ctx, ref)
	if err != nil {
		t.keep(func(next map[string]supervisor.Proof) { delete(next, ref) })
		return Replica{}, err
	}
	t.keep(func(next map[string]supervisor.Proof) { next[p.Worker.WorkerID] = p })
	return replica(t.types(), p), nil
}

// keep replaces the proofs by others, made of the ones there are.
func (t *Table) keep(change func(map[string]supervisor.Proof)) {
	for {
		last := t.proofs.Load()
		next := map[string]supervisor.Proof{}
		if last != nil {
			maps.Copy(next, *last)
		}
		change(next)
		if t.proofs.CompareAndSwap(last, &next) {
			return
		}
	}
}

// prove returns the proofs of all ready workers of types that serve, the kept ones and new ones.
func (t *Table) prove(ctx context.Context, workers []store.Worker, types *catalog.Catalog) (map[string]supervisor.Proof, error) {
	kept := map[string]supervisor.Proof{}
	if last := t.proofs.Load(); last != nil {
		kept = *last
	}
	proofs, fresh, changed := map[string]supervisor.Proof{}, map[string]supervisor.Proof{}, false
	for _, w := range workers {
		if typ, ok := types.Type(w.Type); !ok || !typ.Serves || w.State != store.WorkerReady {
			continue
		}
		p, ok := kept[w.WorkerID]
		if !ok || !sameStart(p.Worker, w) {
			var err error
			changed = true
			if p, err = t.workers.Prove(ctx, w.WorkerID); err != nil {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				continue // it is asked again with the next look
			}
			fresh[w.WorkerID] = p
		}
		p.Worker = w // what has changed of it since is no matter of its listeners
		proofs[w.WorkerID] = p
	}
	// Others may have proven some anew meanwhile, which counts.
	if changed || len(proofs) != len(kept) {
		t.keep(func(next map[string]supervisor.Proof) {
			maps.DeleteFunc(next, func(id string, _ supervisor.Proof) bool { _, ok := proofs[id]; return !ok })
			maps.Copy(next, fresh)
		})
	}
	return proofs, nil
}

// sameStart reports whether two records are of the same start of a worker.
func sameStart(a, b store.Worker) bool {
	return a.LeaseID == b.LeaseID && a.Identity != nil && b.Identity != nil && *a.Identity == *b.Identity
}

func replica(types *catalog.Catalog, p supervisor.Proof) Replica {
	r := Replica{Proof: p}
	if typ, ok := types.Type(p.Worker.Type); ok {
		r.EngineModel = typ.EngineModel(p.Worker.Spec)
	}
	return r
}

// assemble puts workers and entries together by their names.
func assemble(types *catalog.Catalog, workers []store.Worker, proofs map[string]supervisor.Proof) []Route {
	routes := map[string]*Route{}
	at := func(name, typ string) *Route {
		if routes[name] == nil {
			routes[name] = &Route{Name: name, Names: []string{name}, Type: typ, State: Stopped}
		}
		return routes[name]
	}
	// What is configured is there also while nothing runs.
	for _, typ := range types.Types() {
		if typ.Serves && (typ.Source == catalog.SourceConfiguration || typ.Source == catalog.SourceInstalled) {
			route := at(typ.Name, typ.Name)
			route.Names = append(route.Names, typ.Served...)
			if typ.Model != "" {
				route.Names = append(route.Names, typ.Model, typ.Name+"/"+typ.Model)
			}
		}
	}
	for _, w := range workers {
		typ, ok := types.Type(w.Type)
		if !ok || !typ.Serves || w.State.Ended() {
			continue
		}
		names := namesOf(w, typ)
		route := at(names[0], w.Type)
		route.Names = append(route.Names, names[1:]...)
		if state := lifecycle.PublicState(w.State); rank(state) > rank(route.State) {
			route.State, route.Reason = state, w.Reason
		}
		if p, ok := proofs[w.WorkerID]; ok {
			route.Replicas = append(route.Replicas, replica(types, p))
		}
	}
	list := make([]Route, 0, len(routes))
	for _, route := range routes {
		route.Names = unique(route.Names)
		list = append(list, *route)
	}
	slices.SortFunc(list, func(a, b Route) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// namesOf are the names that lead to a worker, the one that is shown first: its own, its entry's
// where somebody has written one, its model's, and type/model.
func namesOf(w store.Worker, typ *catalog.Type) []string {
	var names []string
	if w.Name != "" {
		names = append(names, w.Name)
	}
	if typ.Source == catalog.SourceConfiguration || typ.Source == catalog.SourceInstalled {
		names = append(append(names, typ.Name), typ.Served...)
	}
	if w.Spec.Model != "" {
		names = append(names, w.Spec.Model, typ.Name+"/"+w.Spec.Model)
	}
	if len(names) == 0 {
		names = append(names, typ.Name) // of a preset, without a model
	}
	return names
}

// rank orders states by how near a route is to serving.
func rank(state string) int {
	return slices.Index([]string{
		Stopped, string(store.WorkerBackoff), string(store.WorkerUnhealthy), lifecycle.PublicState(store.WorkerRunning),
		string(store.WorkerLoading), string(store.WorkerReady),
	}, state)
}

func unique(names []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(name string) bool {
		defer func() { seen[name] = true }()
		return seen[name]
	})
}
