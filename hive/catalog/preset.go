package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rbeehive/store"
)

// preset is how one known program is started, seen to be ready and stopped.
type preset struct {
	name        string
	description string
	command     []string          // a template per argument
	params      map[string]string // defaults; every parameter is named here
	script      int               // which argument is the file that an interpreter runs; 0: none
	path        string            // of the readiness probe
	signals     []string          // of a stop; nil: SIGTERM
	env         []string          // NAME=value
	pins        bool              // a device becomes variables of the environment
	version     VersionProbe
}

// bare is the preset of an entry that gives its own command.
func bare(command []string) *preset { return &preset{command: command} }

// base finds what an entry builds on. An entry of a preset's name that says
// neither preset nor command changes that preset.
func (e *Entry) base(index int, known map[string]*preset) (*preset, error) {
	fail := func(key, format string, a ...any) error {
		return &EntryError{Index: index, Name: e.Name, Key: key, Reason: fmt.Sprintf(format, a...)}
	}
	switch {
	case e.Preset != "" && len(e.Command) > 0:
		return nil, fail("preset", "%q and command contradict each other; choose one (program, args and params change a preset)", e.Preset)
	case e.Preset != "" && known[e.Preset] == nil:
		return nil, fail("preset", "%q: expected one of %s", e.Preset, presetNames(known))
	case e.Preset != "":
		return known[e.Preset], nil
	case len(e.Command) > 0:
		return bare(e.Command), nil
	case e.Name == cpuName:
		return known[referenceName], nil
	case known[e.Name] != nil:
		return known[e.Name], nil
	}
	return nil, fail("command", `is missing; expected a list such as ["python3", "-m", "http.server", "{{.Port}}"], or a preset (%s)`, presetNames(known))
}

func presetNames(known map[string]*preset) string {
	return strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

func (p *preset) ready() store.Ready {
	return store.Ready{Path: p.path, Status: 200, Stall: defaultStall}
}

func (p *preset) stop() store.Stop {
	s := store.Stop{Signals: slices.Clone(p.signals), Grace: defaultGrace}
	if len(s.Signals) == 0 {
		s.Signals = []string{"SIGTERM"}
	}
	return s
}
