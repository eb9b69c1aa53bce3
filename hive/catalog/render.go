package catalog

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

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

// argument is one argument of a command and its template.
type argument struct {
	key  string // where it stands in the entry, for errors
	text string
	tmpl *template.Template
}

func parseArgument(key, text string) (argument, error) {
	if strings.ContainsRune(text, 0) {
		return argument{}, errors.New("holds a NUL byte, which no argument can")
	}
	tmpl, err := template.New(key).Option("missingkey=error").Funcs(functions()).Parse(text)
	if err != nil {
		return argument{}, errors.New(worded(err))
	}
	return argument{key: key, text: text, tmpl: tmpl}, nil
}

// position is where text/template says a mistake is; the caller names the key,
// which says more.
var position = regexp.MustCompile(`^template: [^:]*:\d+(:\d+)?: (executing "[^"]*" at )?`)

// worded is a template error in the words of the configuration.
func worded(err error) string {
	s := position.ReplaceAllString(err.Error(), "")
	return strings.ReplaceAll(s, " in type catalog.Values",
		"; the fields are .Port .Ports .Host .Model .ModelID .Device .WorkerID .Name .QueenURL .HiveURL .Hive .Program .Params.<key>")
}

// Check reports whether a spawn could be made of a model and parameters that a
// caller gave, before a port is known: ErrUnavailable, ErrModelRequired or
// ErrUnknownParam.
func (t *Type) Check(model string, params map[string]string) error {
	if t.unavailable != "" {
		return t.unavailableError()
	}
	if model == "" && t.Model == "" && t.UsesModel() {
		return fmt.Errorf("%w: the command of worker type %s uses {{.Model}}", ErrModelRequired, t.Name)
	}
	for _, key := range slices.Sorted(maps.Keys(params)) {
		if _, ok := t.Params[key]; ok {
			continue
		}
		known := "it has none"
		if len(t.Params) > 0 {
			known = "it has " + strings.Join(slices.Sorted(maps.Keys(t.Params)), ", ")
		}
		return fmt.Errorf("%w %.80q of worker type %s; %s", ErrUnknownParam, key, t.Name, known)
	}
	return nil
}

func (t *Type) unavailableError() error { return fmt.Errorf("%w: %s", ErrUnavailable, t.unavailable) }

func (t *Type) renderError(key string, err error) error {
	return fmt.Errorf("%w of worker type %s: %s: %w", ErrRender, t.Name, key, err)
}

// Render makes the spec of one worker: the values fill the command's
// templates; its model, device and params are used over the type's own.
// Argv[0] is as configured and not looked up; Env is not part of a spec, its
// values are never stored. Errors: those of Check and CheckDevice, and ErrRender.
func (t *Type) Render(v Values) (store.Spec, error) {
	if err := t.Check(v.Model, v.Params); err != nil {
		return store.Spec{}, err
	}
	v = t.complete(v)
	if err := t.CheckDevice(v.Device); err != nil {
		return store.Spec{}, err
	}
	argv, key, err := t.execute(v)
	if err != nil {
		return store.Spec{}, t.renderError(key, err)
	}
	stop := t.Stop
	stop.Signals = slices.Clone(stop.Signals)
	if stop.Command, key, err = executeAll(t.stop, v); err != nil {
		return store.Spec{}, t.renderError(key, err)
	}
	return store.Spec{
		Argv: argv, Dir: t.Dir, User: t.User, Host: v.Host, Model: v.ModelID, Device: v.Device, Params: v.Params,
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
	v.ModelID = or(v.ModelID, v.Model)
	v.Device = or(v.Device, t.Device)
	v.Hive = or(v.Hive, t.self)
	if len(v.Ports) == 0 {
		v.Ports = row(v.Port, t.Ports)
	}
	v.Params = merged(t.Params, v.Params)
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
func merged(base, more map[string]string) map[string]string {
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

// render executes the template of one argument.
func (a *argument) render(v Values) (string, error) {
	var b strings.Builder
	if err := a.tmpl.Execute(&b, v); err != nil {
		return "", errors.New(worded(err))
	}
	s := b.String()
	if strings.Contains(s, forbidden) {
		return "", fmt.Errorf("the worker's command line would contain %q in %q, and rbee's keeper ends every such process when it stops a hive; use another path or name", forbidden, s)
	}
	if strings.ContainsRune(s, 0) {
		return "", errors.New("holds a NUL byte, which no argument can")
	}
	return s, nil
}

// execute makes the command.
func (t *Type) execute(v Values) (argv []string, key string, err error) {
	return executeAll(t.args, v)
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

// trySample executes every template once, so that an unknown field is found
// when the configuration is read.
func (t *Type) trySample() (key string, err error) {
	v := t.complete(Values{
		Port: 8080, WorkerID: t.Name + "-8080-abc123", Name: "sample",
		Model: or(t.Model, "sample-model"), Device: or(t.Device, "0"),
		QueenURL: "http://127.0.0.1:7833", HiveURL: "http://127.0.0.1:7835",
	})
	for _, args := range [][]argument{t.args, t.hook, t.stop} {
		if _, key, err = executeAll(args, v); err != nil {
			return key, err
		}
	}
	return "", nil
}

// needsModel reports whether the template cannot do without .Model. What stands
// under {{if .Model}} or {{with .Model}} can.
func needsModel(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.ListNode:
		return n != nil && slices.ContainsFunc(n.Nodes, needsModel)
	case *parse.ActionNode:
		return mentionsModel(n.Pipe)
	case *parse.TemplateNode:
		return mentionsModel(n.Pipe)
	case *parse.IfNode:
		return branchNeedsModel(&n.BranchNode)
	case *parse.WithNode:
		return branchNeedsModel(&n.BranchNode)
	case *parse.RangeNode:
		return mentionsModel(n.Pipe) || needsModel(n.List) || needsModel(n.ElseList)
	}
	return false
}

func branchNeedsModel(b *parse.BranchNode) bool {
	if !mentionsModel(b.Pipe) {
		return needsModel(b.List) || needsModel(b.ElseList)
	}
	return needsModel(b.ElseList)
}

func isModel(field string) bool { return field == "Model" || field == "ModelID" }

// mentionsModel reports whether a pipeline refers to .Model or $.Model.
func mentionsModel(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.PipeNode:
		return n != nil && slices.ContainsFunc(n.Cmds, func(c *parse.CommandNode) bool { return slices.ContainsFunc(c.Args, mentionsModel) })
	case *parse.FieldNode:
		return isModel(n.Ident[0])
	case *parse.VariableNode:
		return len(n.Ident) > 1 && n.Ident[0] == "$" && isModel(n.Ident[1])
	case *parse.ChainNode:
		return mentionsModel(n.Node) || isModel(n.Field[0])
	}
	return false
}
