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
	Hook []string   // what is run before a start; nil: nothing
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
	hook, err := t.Hook(v)
	if err != nil {
		return Plan{}, err
	}
	return Plan{Spec: spec, Env: t.variables(spec.Device), Hook: hook}, nil
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
			// Where it is set last, which is what counts.
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
	// Not by Render, which refuses a missing model.
	program, err := t.args[0].render(t.complete(v))
	if err == nil && program == "" {
		err = errors.New("the program is empty")
	}
	if err != nil {
		return "", t.renderError(t.args[0].key, err)
	}
	return program, nil
}

// Script is the file that the program of a spawn with these values is to run,
// where the program is an interpreter; empty if it is not.
func (t *Type) Script(v Values) string {
	if t.script == 0 || t.unavailable != "" {
		return ""
	}
	script, err := t.args[t.script].render(t.complete(v))
	if err != nil {
		return ""
	}
	return script
}

// VersionProbe is how a program tells its version.
type VersionProbe struct {
	Args []string       // what to start it with; nil: it cannot tell
	Line *regexp.Regexp // the first group is the version, in the first line that matches
	// Proves: the program is an interpreter, and fails when what the type needs is
	// not installed for it.
	Proves bool
}

// VersionProbe is how the program of this type tells its version. It cannot
// unless its preset knows how: another program could do anything when it is
// started with a flag it does not know (whisper-server prints its usage and exits
// with 0).
func (t *Type) VersionProbe() VersionProbe { return t.version }

// RunsHive reports whether the type's program is hive's own binary.
func (t *Type) RunsHive() bool { return len(t.args) > 0 && t.args[0].text == hiveProgram }
