package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rbeehive/store"
)

// preset is how one known program is started, seen to be ready and stopped.
type preset struct {
	name        string
	description string
	command     []string         // a template per argument
	params      map[string]Param // every parameter is named here
	programs    []string         // names of programs that it is for, besides a name in command[0]
	naming      naming           // what comes behind the command
	certificate []string         // flags and variables that name it, without which it serves no TLS
	script      int              // which argument is the file that an interpreter runs, {{.Params.main}}; 0: none
	path        string           // of the readiness probe
	signals     []string         // of a stop; nil: SIGTERM
	grace       time.Duration    // after each of them; 0: defaultGrace
	env         []string         // NAME=value
	openAI      bool             // its API is OpenAI's: the gateway sends requests to it
	pins        bool             // a device becomes variables of the environment
	version     VersionProbe
}

// naming is how a program is told the name by which its clients ask for the model: the one
// that hive shows, the worker's name or else what was asked for as model. The zero value is a
// program that cannot be told.
type naming struct {
	flag string   // takes the name
	same []string // other flags and variables that do the same
}

// arguments are those that say the name, unless the entry says one itself.
func (n naming) arguments(e *Entry) []string {
	if n.flag == "" || e.says(n.flag) || e.says(n.same...) {
		return nil
	}
	return []string{n.flag, "{{or .Name .ModelID}}"}
}

// says reports whether the entry gives one of these flags or variables to its program.
func (e *Entry) says(names ...string) bool {
	says := func(text string) bool {
		name, _, _ := strings.Cut(text, "=")
		return slices.Contains(names, name)
	}
	return slices.ContainsFunc(e.Args, says) || slices.ContainsFunc(e.Env, says)
}

// bare is the preset of an entry that gives its own command.
func bare(command []string) *preset { return &preset{command: command} }

// base finds what an entry builds on. An entry of a preset's name that says
// neither preset nor command changes that preset.
func (e *Entry) base(known map[string]*preset) (p *preset, key string, err error) {
	switch {
	case e.Preset != "" && len(e.Command) > 0:
		return nil, "preset", fmt.Errorf("%q and command contradict each other; choose one (program, args and params change a preset)", e.Preset)
	case e.Preset != "" && known[e.Preset] == nil:
		return nil, "preset", fmt.Errorf("%q: expected one of %s", e.Preset, presetNames(known))
	case e.Preset != "":
		return known[e.Preset], "", nil
	case len(e.Command) > 0:
		return bare(e.Command), "", nil
	// cpu builds on the preset of the reference worker, which has another name.
	case e.Name == cpuName:
		return known[referenceName], "", nil
	case known[e.Name] != nil:
		return known[e.Name], "", nil
	}
	return nil, "command", fmt.Errorf(`is missing; expected a list such as ["python3", "-m", "http.server", "{{.Port}}"], or a preset (%s)`, presetNames(known))
}

// noScript says why a type of a preset whose program is an interpreter cannot be
// started; empty: it can, or its program is none. A script that nobody has named
// would be whatever is called so in the directory that hive was started in.
func (p *preset) noScript(t *Type) string {
	// With dir the script is at a place that the entry says.
	if p.script == 0 || t.Dir != "" || filepath.IsAbs(t.Params["main"].Default) {
		return ""
	}
	return fmt.Sprintf("no script is configured for %[1]s; set its path in hive.yaml, for example: "+
		"workers: [{name: %[1]s, preset: %[2]s, program: /opt/%[2]s/venv/bin/python, params: {main: /opt/%[2]s/main.py}}]", t.Name, p.name)
}

func presetNames(known map[string]*preset) string {
	return strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

// ready is the readiness of an entry that says nothing about it.
func (p *preset) ready(e *Entry) store.Ready {
	return store.Ready{Path: p.path, TLS: e.says(p.certificate...), Status: 200, Stall: defaultStall}
}

func (p *preset) stop() store.Stop {
	s := store.Stop{Signals: slices.Clone(p.signals), Grace: cmp.Or(p.grace, defaultGrace)}
	if len(s.Signals) == 0 {
		s.Signals = []string{"SIGTERM"}
	}
	return s
}

// starts reports whether a program of that name is started by this preset, and by
// no other: an interpreter is not.
func (p *preset) starts(program string) bool {
	own := p.script == 0 && !p.version.Proves && p.command[0] == program
	return own || slices.Contains(p.programs, program)
}

// Offer makes the entry that worker_install writes for a preset's name, or for the
// name of a program that a preset is for. ok is false for any other name. Which
// program it is, the caller finds out.
func Offer(id string) (e Entry, ok bool) {
	known := presets()
	if known[id] != nil {
		return Entry{Name: id, Preset: id}, true
	}
	// Sorted, so that the same program always makes the same type.
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if known[name].starts(id) {
			return Entry{Name: id, Preset: name, Program: id}, true
		}
	}
	return Entry{}, false
}

// Offered is what Offer knows: the names of presets, and of programs besides.
func Offered() []string {
	known := presets()
	var names []string
	for name, p := range known {
		if p.script != 0 {
			continue // its entry must say where the script is
		}
		names = append(append(names, name), p.programs...)
		if p.starts(p.command[0]) && !strings.Contains(p.command[0], "{{") {
			names = append(names, p.command[0])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ValidName reports whether a type can have that name, which is also part of file
// names.
func ValidName(name string) bool { return nameRE.MatchString(name) }
