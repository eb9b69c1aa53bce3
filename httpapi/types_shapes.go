package httpapi

import (
	"rbeehive/hive/catalog"
	"rbeehive/hive/endpoint"
	"rbeehive/hive/workertype"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

func typeSummaryShape(t workertype.View) wire.TypeSummary {
	return wire.TypeSummary{
		Name:        t.Name,
		Source:      t.Source,
		Preset:      orNull(t.Preset),
		Description: t.Description,
		Autostart:   t.Autostart,
		Installed:   t.Program != "",
		Program:     orNull(t.Program),
		Version:     orNull(t.Version),
		Reason:      orNull(t.Missing),
	}
}

func typeDetailShape(t workertype.View) wire.TypeDetail {
	d := wire.TypeDetail{
		Name:        t.Name,
		Source:      t.Source,
		Preset:      orNull(t.Preset),
		Description: t.Description,
		Autostart:   t.Autostart,
		Installed:   t.Program != "",
		Program:     orNull(t.Program),
		Version:     orNull(t.Version),
		Reason:      orNull(t.Missing),
		Model:       orNull(t.Model),
		Device:      orNull(t.Device),
		Params:      map[string]string{},
		Parameters:  map[string]wire.TypeParam{},
		NeedsModel:  t.NeedsModel,
		Template:    orEmpty(t.Template),
		NoCommand:   orNull(t.NoPlan),
		Env:         []wire.Variable{},
		Inherited:   []string{},
		Removed:     []string{},
		Dir:         orNull(t.Dir),
		User:        orNull(t.User),
		EnvFile:     orNull(t.EnvFile),
		BeforeStart: []string{},
	}
	for name, p := range t.Params {
		d.Params[name] = p.Default
		d.Parameters[name] = wire.TypeParam{Default: p.Default, Pattern: orNull(p.Pattern), Fixed: p.Fixed}
	}
	if t.Plan == nil { // NoCommand says why
		return d
	}
	spec := t.Plan.Spec
	d.Command, d.WorkerID, d.Host, d.Port = spec.Argv, &t.Plan.WorkerID, &spec.Host, &t.Plan.Port
	d.Inherited, d.Removed = orEmpty(t.Plan.Inherited), orEmpty(t.Plan.Removed)
	d.NoNewPrivileges = &t.Plan.NoNewPrivs
	for _, v := range t.Plan.Env {
		d.Env = append(d.Env, variableShape(v))
	}
	d.Ready = readyShape(spec, t.Plan.Port)
	d.BeforeStart = orEmpty(t.Plan.Hook)
	d.Live, d.Restart = liveShape(spec, t.Plan.Port), restartShape(spec.Restart)
	d.Stop = &wire.TypeStop{Command: orEmpty(spec.Stop.Command), Signals: orEmpty(spec.Stop.Signals), GraceMS: spec.Stop.Grace.Milliseconds(), Scope: "main"}
	if spec.Stop.Tree {
		d.Stop.Scope = "tree"
	}
	return d
}

// variableShape keeps what may be secret out, whatever the variable holds.
func variableShape(v catalog.Variable) wire.Variable {
	shape := wire.Variable{Name: v.Name, From: string(v.From)}
	switch v.From {
	case workertype.FromHive, catalog.FromPreset, catalog.FromDevice:
		shape.Value = &v.Value
	}
	return shape
}

func liveShape(spec store.Spec, port uint16) *wire.TypeLive {
	if spec.Live.Interval == 0 {
		return nil
	}
	l := &wire.TypeLive{IntervalMS: spec.Live.Interval.Milliseconds(), TimeoutMS: spec.Live.AnswerTimeout().Milliseconds(), Failures: spec.Live.Failures, Action: "report"}
	if spec.Live.Restart {
		l.Action = "restart"
	}
	if spec.Live.Path != "" {
		url := endpoint.URLOf(spec, port) + spec.Live.Path
		l.URL = &url
	}
	return l
}

func restartShape(r store.Restart) *wire.TypeRestart {
	return &wire.TypeRestart{
		Policy: string(r.Policy), Max: r.Max, WindowMS: r.Window.Milliseconds(),
		BackoffMS: r.Backoff.Milliseconds(), MaxBackoffMS: r.MaxBackoff.Milliseconds(),
	}
}

func readyShape(spec store.Spec, port uint16) *wire.TypeReady {
	r := &wire.TypeReady{
		Status: spec.Ready.Status, StallMS: spec.Ready.Stall.Milliseconds(), TimeoutMS: spec.Ready.Timeout.Milliseconds(),
	}
	if spec.Ready.Path != "" {
		url := endpoint.URLOf(spec, port) + spec.Ready.Path
		r.URL = &url
	}
	return r
}
