package catalog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rbeehive/store"
)

// Values are the fields of the templates: .Port, .Ports and so on.
type Values struct {
	Port     uint16
	Ports    []uint16 // empty: Port and those behind it, as many as the type leases
	Host     string   // empty: the type's
	Model    string   // empty: the type's; of a model of hive's own the path
	ModelID  string   // what was asked for; empty: Model
	Device   string   // empty: the type's
	WorkerID string
	Name     string
	QueenURL string
	HiveURL  string
	Hive     string            // path of the hive binary; empty: the catalog's
	Program  string            // the program of the command; Render sets it
	Params   map[string]string // over the type's
}

// Check reports whether a spawn could be made of what a caller gave (Model, Device, Name
// and Params), before a port is known: ErrUnavailable, or a *ValueError for what the type
// does not take. A missing model is reported last.
func (t *Type) Check(v Values) error {
	if err := t.check(v); err != nil {
		return err
	}
	full := t.complete(sample(v))
	_, err := t.try(full)
	// Only this is the caller's mistake; any other is the entry's.
	if f, ok := errors.AsType[*flagError](err); ok {
		return &ValueError{Field: f.field(full), Err: fmt.Errorf("%w of worker type %s: %w", ErrFlag, t.Name, err)}
	}
	return nil // another error of the template is reported when the command is made
}

// check is Check without checking the rendered values.
func (t *Type) check(v Values) error {
	if t.unavailable != "" {
		return t.unavailableError()
	}
	// Sorted, so that the same request is always refused with the same words.
	for _, key := range slices.Sorted(maps.Keys(v.Params)) {
		p, ok := t.Params[key]
		if !ok {
			return t.unknownParam(key)
		}
		if err := p.check(v.Params[key]); err != nil {
			return &ValueError{Field: "params." + key, Err: fmt.Errorf("%w by worker type %s: %s %w", ErrBadParam, t.Name, key, err)}
		}
	}
	if err := t.CheckDevice(v.Device); err != nil {
		return err
	}
	if v.Model == "" && t.Model == "" && t.UsesModel() {
		return &ValueError{Field: "model", Err: fmt.Errorf("%w: the command of worker type %s uses {{.Model}}", ErrModelRequired, t.Name)}
	}
	return nil
}

func (t *Type) unknownParam(key string) error {
	known := "it has none"
	if len(t.Params) > 0 {
		known = "it has " + strings.Join(slices.Sorted(maps.Keys(t.Params)), ", ")
	}
	return &ValueError{Field: "params", Err: fmt.Errorf("%w %.80q of worker type %s; %s", ErrUnknownParam, key, t.Name, known)}
}

func (t *Type) unavailableError() error { return fmt.Errorf("%w: %s", ErrUnavailable, t.unavailable) }

func (t *Type) renderError(key string, err error) error {
	return fmt.Errorf("%w of worker type %s: %s: %w", ErrRender, t.Name, key, err)
}

// Render makes the spec of one worker: the values fill the command's
// templates; its model, device and params are used over the type's own.
// Argv[0] is as configured and not looked up; Env is not part of a spec, its
// values are never stored. Errors: those of Check, and ErrRender.
func (t *Type) Render(v Values) (store.Spec, error) {
	if err := t.check(v); err != nil {
		return store.Spec{}, err
	}
	v = t.complete(v)
	argv, key, err := executeAll(t.args, v)
	if err != nil {
		return store.Spec{}, t.renderError(key, err)
	}
	stop := t.Stop
	// A copy: a spec is kept with the worker, and the type is shared by all.
	stop.Signals = slices.Clone(stop.Signals)
	if stop.Command, key, err = executeAll(t.stop, v); err != nil {
		return store.Spec{}, t.renderError(key, err)
	}
	return store.Spec{
		Argv: argv, Dir: t.Dir, User: t.User, NoNewPrivs: t.NoNewPrivs, Host: v.Host, BasePath: t.BasePath, Model: v.ModelID, Device: v.Device, Params: v.Params,
		Ready: t.Ready, Live: t.Live, Stop: stop, Restart: t.Restart,
	}, nil
}

// Hook returns the command that is to be run before a worker starts; nil: none.
// Errors: those of Render.
func (t *Type) Hook(v Values) ([]string, error) {
	argv, key, err := executeAll(t.hook, t.complete(v))
	if err != nil {
		return nil, t.renderError(key, err)
	}
	return argv, nil
}

func parseArguments(key string, texts []string) (list []argument, err error) {
	for i, text := range texts {
		a, err := parseArgument(fmt.Sprintf("%s[%d]", key, i), text)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// complete fills in what a spawn did not say.
func (t *Type) complete(v Values) Values {
	v.Host = or(v.Host, t.Host())
	v.Model = or(v.Model, t.Model)
	// What was asked for stays in the record, even where the program is given a path.
	v.ModelID = or(v.ModelID, v.Model)
	v.Device = or(v.Device, t.Device)
	v.Hive = or(v.Hive, t.self)
	if len(v.Ports) == 0 {
		v.Ports = row(v.Port, t.Ports)
	}
	v.Params = merged(defaults(t.Params), v.Params)
	return v
}

// row is n ports from first on.
func row(first uint16, n int) []uint16 {
	var ports []uint16
	for i := range n {
		ports = append(ports, first+uint16(i))
	}
	return ports
}

// merged is base with more over it, a map of its own; nil if both are empty.
func merged[V any](base, more map[string]V) map[string]V {
	if len(base) == 0 {
		return maps.Clone(more)
	}
	out := maps.Clone(base)
	maps.Copy(out, more)
	return out
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// executeAll returns the arguments but those that render empty; on an error also
// the key of the argument at fault. One that was written empty is meant (redis-server
// --save ""), and without it the next one would take its place.
func executeAll(args []argument, v Values) (argv []string, key string, err error) {
	for i, a := range args {
		s, err := a.render(v)
		if err != nil {
			return nil, a.key, err
		}
		// For {{.Program}} in later arguments.
		if i == 0 {
			v.Program = s
		}
		if s == "" && i == 0 {
			return nil, a.key, errors.New("the program is empty")
		}
		if s != "" || a.text == "" {
			argv = append(argv, s)
		}
	}
	return argv, "", nil
}

// sample fills in what a spawn could not have said before it has a port.
func sample(v Values) Values {
	v.Port, v.WorkerID = 8080, "sample-8080-abc123"
	v.QueenURL, v.HiveURL = "http://127.0.0.1:7833", "http://127.0.0.1:7835"
	return v
}

// trySample executes every template once, so that an unknown field is found
// when the configuration is read.
func (t *Type) trySample() (key string, err error) {
	// With a model and a device, so that what stands under {{if .Model}} is tried.
	v := sample(Values{Name: "sample", Model: or(t.Model, "sample-model"), Device: or(t.Device, "0")})
	return t.try(t.complete(v))
}

// try executes every template. On an error it also returns the key at fault.
func (t *Type) try(v Values) (key string, err error) {
	for _, args := range [][]argument{t.args, t.hook, t.stop} {
		if _, key, err = executeAll(args, v); err != nil {
			return key, err
		}
	}
	return "", nil
}

// IsPath reports whether a model is a path, and not the name of one that the program finds
// by itself: model.gguf can be one in a directory that the command names, but not to
// llama-server.
func (t *Type) IsPath(model string) bool {
	return strings.HasPrefix(model, "/") || strings.HasPrefix(model, ".") || t.Preset == "llama-server" && isGGUF(model) && hubRepo(model) == ""
}
