package httpapi

import (
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

func typeSummaryShape(t hive.TypeView) wire.TypeSummary {
	return wire.TypeSummary{
		Name:        t.Name,
		Source:      t.Source,
		Preset:      orNull(t.Preset),
		Description: t.Description,
		Installed:   t.Program != "",
		Program:     orNull(t.Program),
		Version:     orNull(t.Version),
		Reason:      orNull(t.Missing),
	}
}

func typeDetailShape(t hive.TypeView) wire.TypeDetail {
	d := wire.TypeDetail{
		TypeSummary: typeSummaryShape(t),
		Model:       orNull(t.Model),
		Device:      orNull(t.Device),
		Params:      t.Params,
		NeedsModel:  t.NeedsModel,
		Template:    orEmpty(t.Template),
		NoCommand:   orNull(t.NoPlan),
		Env:         []wire.Variable{},
		Removed:     []string{},
	}
	if d.Params == nil {
		d.Params = map[string]string{}
	}
	if t.Plan == nil {
		return d
	}
	spec := t.Plan.Spec
	d.Command, d.WorkerID, d.Host, d.Port = spec.Argv, &t.Plan.WorkerID, &spec.Host, &t.Plan.Port
	d.Removed = orEmpty(t.Plan.Removed)
	for _, v := range t.Plan.Env {
		d.Env = append(d.Env, variableShape(v))
	}
	d.Ready = readyShape(spec, t.Plan.Port)
	d.Stop = &wire.TypeStop{Signals: orEmpty(spec.Stop.Signals), GraceMS: spec.Stop.Grace.Milliseconds(), Scope: "main"}
	if spec.Stop.Tree {
		d.Stop.Scope = "tree"
	}
	return d
}

// variableShape keeps what may be secret out, whatever the variable holds.
func variableShape(v catalog.Variable) wire.Variable {
	shape := wire.Variable{Name: v.Name, From: string(v.From)}
	switch v.From {
	case hive.FromHive, catalog.FromPreset, catalog.FromDevice:
		shape.Value = &v.Value
	}
	return shape
}

func readyShape(spec store.Spec, port uint16) *wire.TypeReady {
	r := &wire.TypeReady{
		Status: spec.Ready.Status, StallMS: spec.Ready.Stall.Milliseconds(), TimeoutMS: spec.Ready.Timeout.Milliseconds(),
	}
	if spec.Ready.Path != "" {
		url := hive.URL(store.Worker{Spec: spec, Port: port}) + spec.Ready.Path
		r.URL = &url
	}
	return r
}
