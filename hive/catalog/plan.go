package catalog

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"rbeehive/store"
)

// Plan is what a spawn would do.
type Plan struct {
	Spec store.Spec // as Render makes it
	Env  []Variable // what the type adds to the environment
}

// Variable is one variable of a worker's environment, without what may be secret.
type Variable struct {
	Name  string
	Value string // empty for FromEntry and FromEnvironment
	From  Origin
}

// Origin says who sets a variable.
type Origin string

// Who sets a variable.
const (
	FromPreset      Origin = "preset"
	FromDevice      Origin = "device"      // it pins the device
	FromEntry       Origin = "entry"       // its value may be secret
	FromEnvironment Origin = "environment" // passed through from hive's own; its value may be secret
)

// Plan says what a spawn with these values would do, without doing any of it.
// Errors: those of Render.
func (t *Type) Plan(v Values) (Plan, error) {
	spec, err := t.Render(v)
	if err != nil {
		return Plan{}, err
	}
	return Plan{Spec: spec, Env: t.variables(spec.Device)}, nil
}

// variables is Environ as it may be shown: each name once, where it is set last.
func (t *Type) variables(device string) []Variable {
	list := []Variable{}
	add := func(vars []string, from Origin) {
		for _, kv := range vars {
			name, value, given := strings.Cut(kv, "=")
			v := Variable{Name: name, Value: value, From: from}
			if from == FromEntry {
				v.Value = ""
				if !given {
					v.From = FromEnvironment
				}
			}
			list = slices.DeleteFunc(list, func(w Variable) bool { return w.Name == name })
			list = append(list, v)
		}
	}
	add(t.presetEnv, FromPreset)
	if t.pins {
		add(pinned(device), FromDevice)
	}
	add(t.env, FromEntry)
	return list
}

// Program is the program that a spawn with these values would look up: the first
// argument of its command, also where the command as a whole cannot be made yet
// because it needs a model. Errors: ErrUnavailable and ErrRender.
func (t *Type) Program(v Values) (string, error) {
	if t.unavailable != "" {
		return "", t.unavailableError()
	}
	program, err := t.args[0].render(t.complete(v))
	if err == nil && program == "" {
		err = errors.New("the program is empty")
	}
	if err != nil {
		return "", t.renderError(t.args[0].key, err)
	}
	return program, nil
}

// VersionProbe is how the program of this type tells its version: the arguments
// to give it, and a pattern whose first group is the version in the first line
// that matches. It has none (nil) unless its preset knows one: another program
// could do anything when it is started with a flag it does not know.
func (t *Type) VersionProbe() (args []string, line *regexp.Regexp) {
	return slices.Clone(t.version.args), t.version.line
}

// RunsHive reports whether the type's program is hive's own binary.
func (t *Type) RunsHive() bool { return len(t.args) > 0 && t.args[0].text == hiveProgram }
