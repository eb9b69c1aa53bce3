package workertype

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/input"
	"rbeehive/hive/launch"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store/plain"

	"golang.org/x/sync/errgroup"
)

// View is a worker type as a person or a client sees it: where it comes
// from, whether its program is here, and what a spawn of it would do.
type View struct {
	Name        string
	Source      string // of the catalog: built-in, preset, configuration or installed
	File        string // of types.d that it is from; empty: none
	Preset      string // what it builds on; empty: a command of its own
	Description string
	Model       string // used when a spawn names none
	Device      string // used when a spawn names none
	Params      map[string]catalog.Param
	Dir         string // working directory of workers; empty: hive's own
	User        string // whom workers run as; empty: as hive does
	EnvFile     string // read at each start; empty: none
	Autostart   bool
	NeedsModel  bool     // the command cannot be made without one
	Template    []string // the command as configured
	Program     string   // where the program was found; empty: it is not installed
	Version     string   // empty: not asked for, or it did not tell
	Missing     string   // why Program is empty
	Plan        *Plan
	NoPlan      string // why Plan is nil
}

// Plan is what a spawn would do. The port is an example unless one was
// asked for, and so is what depends on it.
type Plan struct {
	catalog.Plan
	Port     uint16
	WorkerID string
	// NoNewPrivs: nothing that a worker executes gives it more rights than its user has.
	NoNewPrivs bool
	// Inherited and Removed are the variables of hive's own environment that are
	// handed on, and that are not, as proc.Inheritance tells them.
	Inherited, Removed []string
}

// Who sets a variable of a plan, besides those of the catalog.
const (
	FromHive  catalog.Origin = "hive"  // every worker gets it
	FromSpawn catalog.Origin = "spawn" // the value is made at the spawn
)

// maxViews is how many types are looked at at once.
const maxViews = 32

// List returns all worker types by name, without their plans. With versions it
// runs each installed program whose preset knows how to ask it, a few at a time
// and for up to two seconds each (see versions); without, it blocks only for
// looks at the file system. Safe for concurrent use; ctx ends the asking.
func (ts *Types) List(ctx context.Context, versions bool) []View {
	types := ts.catalog().Types()
	views := make([]View, len(types))
	var g errgroup.Group
	g.SetLimit(maxViews)
	for i, t := range types {
		// At once: each may wait for a file system that does not answer.
		g.Go(func() error {
			views[i] = ts.viewOf(ctx, t, operation.Spawn{})
			if versions {
				ts.addVersion(ctx, t, &views[i])
			} else {
				ts.recall(t, &views[i])
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors
	return views
}

// Info returns the worker type s.Worker with what the spawn s would do,
// without doing it: nothing is leased and, unless version is true, nothing is
// run. Errors: errdefs.ErrNotFound, and *errdefs.InputError for a field with a wrong value. What
// only stands in the way of a spawn (no model, no program) is said in the view.
func (ts *Types) Info(ctx context.Context, s operation.Spawn, version bool) (View, error) {
	t, ok := ts.catalog().Type(s.Worker)
	if !ok {
		return View{}, fmt.Errorf("worker type %q: %w (known: %s)", plain.Short(s.Worker), errdefs.ErrNotFound, strings.Join(ts.catalog().Names(), ", "))
	}
	if err := check(s); err != nil {
		return View{}, err
	}
	s = named(t, s)
	if err := checkPort(s, t); err != nil {
		return View{}, err
	}
	// Before the program is looked for, whose path may depend on what was given.
	if err := t.Check(given(s)); err != nil && !errors.Is(err, catalog.ErrUnavailable) && !errors.Is(err, catalog.ErrModelRequired) {
		return View{}, asInput(err)
	}
	view := ts.viewOf(ctx, t, s)
	plan, err := ts.plan(t, s, view.Program)
	if err != nil {
		view.NoPlan = reason(err)
	}
	view.Plan = plan
	if version {
		ts.addVersion(ctx, t, &view)
	} else {
		ts.recall(t, &view)
	}
	return view, nil
}

// viewOf is a type without its plan.
func (ts *Types) viewOf(ctx context.Context, t *catalog.Type, s operation.Spawn) View {
	v := View{
		Name: t.Name, Source: t.Source, File: t.File, Preset: t.Preset, Description: t.Description,
		Model: t.Model, Device: t.Device, Params: maps.Clone(t.Params),
		Dir: launch.WorkDir(t.User, t.Dir), User: t.User, EnvFile: t.EnvFile, Autostart: t.Autostart, NeedsModel: t.UsesModel(), Template: t.Command(),
	}
	var err error
	if v.Program, err = ts.find(ctx, t, s); err != nil {
		v.Missing = reason(err)
	}
	return v
}

// find looks for the program of a type, and for what an interpreter is to run.
func (ts *Types) find(ctx context.Context, t *catalog.Type, s operation.Spawn) (string, error) {
	values := ts.exampleValues(t, s)
	program, err := t.Program(values)
	if err != nil {
		return "", err
	}
	dir := launch.WorkDir(t.User, t.Dir)
	path, err := proc.FindProgram(ctx, program, dir)
	if script := t.Script(values); err == nil && script != "" {
		file := script
		// As the interpreter takes it: relative to its working directory.
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if _, err := proc.StatFile(ctx, file); err != nil {
			return "", fmt.Errorf("%s is to run %s: %w", path, script, err)
		}
	}
	return path, err
}

// reason is an error without the sentinel that only repeats where it is shown.
func reason(err error) string {
	text := err.Error()
	for _, sentinel := range []error{proc.ErrProgramNotFound, catalog.ErrUnavailable} {
		text = strings.TrimPrefix(text, sentinel.Error()+": ")
	}
	return text
}

// exampleValues are the values of a spawn that is not going to happen.
func (ts *Types) exampleValues(t *catalog.Type, s operation.Spawn) catalog.Values {
	port := s.Port
	if port == 0 {
		port = t.Port
	}
	if port == 0 {
		port = ts.firstPort
	}
	return ts.launcher.Located(t, ts.launcher.Values(s, fmt.Sprintf("%s-%d-xxxxxx", t.Name, port), port))
}

func (ts *Types) plan(t *catalog.Type, s operation.Spawn, program string) (*Plan, error) {
	values := ts.exampleValues(t, s)
	plan, err := t.Plan(values)
	if err != nil {
		return nil, err
	}
	if program != "" {
		plan.Spec.Argv[0] = program
	}
	// An entry may set it itself, and wins.
	if !slices.ContainsFunc(plan.Env, func(v catalog.Variable) bool { return v.Name == proc.KeepEnv }) {
		plan.Env = slices.Insert(plan.Env, 0, catalog.Variable{Name: proc.KeepEnv, Value: "1", From: FromHive})
	}
	plan.Env = append(plan.Env,
		catalog.Variable{Name: proc.StampState, Value: ts.launcher.StateID, From: FromHive},
		catalog.Variable{Name: proc.StampLease, From: FromSpawn}, catalog.Variable{Name: proc.StampWorker, From: FromSpawn},
		catalog.Variable{Name: proc.StampProof, From: FromSpawn})
	if values.Name != "" {
		plan.Env = append(plan.Env,
			catalog.Variable{Name: proc.StampName, Value: values.Name, From: FromHive}, catalog.Variable{Name: proc.StampNameProof, From: FromSpawn})
	}
	other, err := launch.OtherUser(t.User)
	if err != nil {
		return nil, err
	}
	p := &Plan{Plan: plan, Port: values.Port, WorkerID: values.WorkerID}
	p.Inherited, p.Removed = proc.Inheritance(other, t.Environ(plan.Spec.Device))
	p.NoNewPrivs, err = proc.NoNewPrivs(t.User, t.NoNewPrivs)
	return p, err
}

// check refuses the values that a decoded operation cannot have.
func check(s operation.Spawn) error {
	if err := input.Argument(s.Model); err != nil {
		return errdefs.BadField("model", err.Error())
	}
	if err := input.Argument(s.Device); err != nil {
		return errdefs.BadField("device", err.Error())
	}
	if s.Name != "" {
		if err := input.WorkerName(s.Name); err != nil {
			return errdefs.BadField("name", err.Error())
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.Params)) {
		if err := input.Argument(s.Params[k]); err != nil {
			return errdefs.BadField("params."+plain.Short(k), err.Error())
		}
	}
	return nil
}

// addVersion asks the program of a type for its version. If it is an interpreter
// for which the rest is not installed, the view says so.
func (ts *Types) addVersion(ctx context.Context, t *catalog.Type, view *View) {
	probe := t.VersionProbe()
	switch {
	case view.Program == "":
		return
	case t.RunsHive():
		view.Version = ts.version
		return
	case len(probe.Args) == 0:
		return
	}
	version, err := ts.askVersion(ctx, t, view.Program)
	// Only if it ran and failed: one that could not be started, or was too slow, proves nothing.
	if probe.Proves && errors.Is(err, errNoVersion) {
		view.lacksPackage(t)
	}
	view.Version = version
}

// recall says of an interpreter what is known from the last time that it was asked.
func (ts *Types) recall(t *catalog.Type, view *View) {
	if view.Program != "" && ts.lacksPackage(t, view.Program) {
		view.lacksPackage(t)
	}
}

// lacksPackage makes a view that of an interpreter without what it is to run.
func (v *View) lacksPackage(t *catalog.Type) {
	v.Missing, v.Program = fmt.Sprintf("%s has no %s installed", v.Program, t.Preset), ""
}
