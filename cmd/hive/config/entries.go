package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/setting"
)

// anyProgram is the reference worker's program for a catalog that is only checked.
const anyProgram = "/hive"

// place is where an entry is.
type place struct {
	file  string
	label string     // what stands before its keys: "workers[0] (web): "
	node  *yaml.Node // nil: its lines are not known any more
}

func (p place) mistake(f flaw) *Error {
	e := &Error{Source: p.file, Reason: f.reason}
	if p.node != nil {
		e.Line = nodeOf(p.node, f.key).Line
		e.Source = fmt.Sprintf("%s:%d", p.file, e.Line)
	}
	e.Source += ": " + p.label + f.key
	return e
}

// entries gathers the entries of a configuration, and what is wrong with them.
type entries struct {
	Mistakes
	c      *Config
	places []place // of c.Workers
}

// checkEntries takes the entries of the file, and then those of types.d.
func (l *loader) checkEntries(s *settings) {
	all := &entries{c: s.Config}
	list, _ := l.v.Get(workersKey).([]any)
	for i, data := range list {
		_, nodes := pairOf(l.root, workersKey)
		at := place{file: l.file, node: resolved(nodes).Content[i]}
		at.label = fmt.Sprintf("%s[%d]%s: ", workersKey, i, label(at.node))
		e, _ := all.decode(data, at, "")
		all.admit(e, at)
	}
	for _, e := range all.Mistakes {
		l.addNew(e)
	}
	slices.SortStableFunc(l.Mistakes, byLine)
	all.Mistakes = nil
	var had []catalog.Entry
	if l.opts.Previous != nil {
		had = l.opts.Previous.Workers
	}
	all.addInstalled(s.DataDir, had)
	if len(l.Mistakes)+len(all.Mistakes) == 0 {
		all.checkTogether()
	}
	for _, e := range all.Mistakes {
		l.addNew(e)
	}
}

// decode makes an entry of its values, and checks it on its own. It must be called as its
// file, if it has one.
func (all *entries) decode(data any, at place, called string) (e catalog.Entry, ok bool) {
	wrong := decodeInto(&e, data, setting.Field{})
	if called != "" && e.Name != called {
		wrong = append(wrong, flaw{"name", fmt.Sprintf("%q: expected %q, as the file is called", e.Name, called)})
	}
	for _, m := range catalog.Mistakes(e, anyProgram) {
		// What is missing may be what a key that is misspelt was to say, which is told already.
		if at.node != nil && nodeOf(at.node, m.Key) == at.node && hasUnknownKey(at.node) {
			continue
		}
		wrong = append(wrong, flaw{m.Key, m.Reason})
	}
	all.note(wrong, at)
	return e, len(wrong) == 0
}

// hasUnknownKey reports whether an entry has a key that no entry has.
func hasUnknownKey(entry *yaml.Node) bool {
	if entry.Kind != yaml.MappingNode {
		return false
	}
	known := rulesOf(reflect.TypeFor[catalog.Entry]()).keys
	for i := 0; i < len(entry.Content); i += 2 {
		name := strings.ToLower(entry.Content[i].Value)
		if _, ok := known[name]; !ok && name != "<<" {
			return true
		}
	}
	return false
}

func (all *entries) note(wrong []flaw, at place) {
	for _, f := range wrong {
		all.addNew(at.mistake(f))
	}
}

// admit adds an entry to the configuration.
func (all *entries) admit(e catalog.Entry, at place) {
	c := all.c
	c.Workers, all.places = append(c.Workers, e), append(all.places, at)
	if why := c.unleasable(&e); why != "" {
		all.note([]flaw{{"port", why}}, at)
	}
	if why := catalog.PortUnsaid(e, anyProgram); why != "" {
		c.Warnings = append(c.Warnings, at.mistake(flaw{"command", why}))
	}
	if len(e.Allow.Users)+len(e.Allow.Groups)+len(e.Allow.Tokens) == 0 {
		return
	}
	set, wrong := setOf(principals{Users: e.Allow.Users, Groups: e.Allow.Groups})
	for i := range wrong {
		wrong[i].key = "allow." + wrong[i].key
	}
	all.note(wrong, at)
	if c.Access.Types == nil {
		c.Access.Types = map[string]access.Allowed{}
	}
	c.Access.Types[e.Name] = access.Allowed{Set: set, Tokens: slices.Clone(e.Allow.Tokens)}
}

// checkTogether finds what is wrong only with all of the entries.
func (all *entries) checkTogether() {
	_, err := catalog.New(all.c.Workers, anyProgram)
	if wrong, ok := errors.AsType[*catalog.EntryError](err); ok {
		all.note([]flaw{{wrong.Key, wrong.Reason}}, all.places[wrong.Index])
	}
}

// unleasable says why an entry's own port could never be leased to it; empty: it can.
func (c *Config) unleasable(e *catalog.Entry) string {
	for port := e.Port; port > 0 && port < e.Port+max(1, e.Ports); port++ {
		if slices.ContainsFunc(slices.Concat(c.Listen, c.Passed), func(a Address) bool { return a.Socket == "" && int(a.TCP.Port()) == port }) {
			return fmt.Sprintf("%d is the port of hive's own API (listen)", port)
		}
		for _, r := range c.Ports.Reserved {
			if port <= 65535 && r.Contains(uint16(port)) {
				return fmt.Sprintf("%d is in ports.reserved, which is never given out; remove it there: the port of an entry is reserved for it anyway", port)
			}
		}
	}
	return ""
}

// WithTypes is the same configuration with the files of types.d in a data directory,
// as they are now. It reads files and does not block otherwise. What is wrong with them
// comes as Mistakes.
func (c *Config) WithTypes(dataDir string) (*Config, error) {
	next, policy := *c, *c.Access
	next.Access, next.Workers = &policy, nil
	// A set of its own: the one before may be in use.
	policy.Types = maps.Clone(policy.Types)
	all := &entries{c: &next}
	for i, e := range c.Workers {
		if e.File != "" {
			delete(policy.Types, e.Name)
			continue
		}
		next.Workers = append(next.Workers, e)
		all.places = append(all.places, place{file: c.File, label: fmt.Sprintf("%s[%d] (%s): ", workersKey, i, e.Name)})
	}
	next.Warnings = slices.DeleteFunc(slices.Clone(c.Warnings), func(w *Error) bool { return strings.HasPrefix(w.Source, typesIn(dataDir)) })
	all.addInstalled(dataDir, c.Workers)
	if len(all.Mistakes) == 0 {
		all.checkTogether()
	}
	if err := all.err(); err != nil {
		return nil, err
	}
	return &next, nil
}
