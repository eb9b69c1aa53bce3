package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rbeehive/store"
)

// Where a type comes from.
const (
	SourceBuiltin       = "built-in"
	SourcePreset        = "preset"
	SourceConfiguration = "configuration"
	SourceInstalled     = "installed" // by worker_install: a file of types.d
)

// loopback is what a worker binds unless its entry says otherwise.
const loopback = "127.0.0.1"

// forbidden must not be in a worker's command line; see the package comment.
const forbidden = "rbee-hive"

// Catalog is all worker types of a hive. It never changes after New.
type Catalog struct {
	types     map[string]*Type
	reference *Type
	self      string
}

// Type is one way to start a worker. Its methods and fields are read only and
// safe for concurrent use.
type Type struct {
	Name        string
	Source      string // SourceBuiltin, SourcePreset, SourceConfiguration or SourceInstalled
	File        string // of types.d that its entry is in; empty: none
	Preset      string // what it builds on; empty for a command of the entry's own
	Description string // one line for a person
	BasePath    string // the path below which a worker serves; empty: none
	Model       string // used when a spawn names none
	Device      string // used when a spawn names none
	Params      map[string]Param
	Port        uint16   // fixed: a spawn that names none gets this one or fails; 0: any of the range
	Ports       int      // how many ports in a row a worker leases, at least 1
	Dir         string   // working directory of workers; empty: hive's own, or / for another user
	User        string   // whom workers run as; empty: as hive does
	NoNewPrivs  *bool    // as in Entry.NoNewPrivileges
	EnvFile     string   // read at each start; empty: none
	Autostart   bool     // a worker is started whenever none of the type lives
	StartAfter  []string // autostart entries that are to be ready before this one is started
	Order       int      // of its entry among those of the configuration
	Reload      bool     // a change of the type restarts its workers
	Ready       store.Ready
	Live        store.Live
	Stop        store.Stop
	Restart     store.Restart
	Serves      bool     // the gateway sends requests to its workers
	Served      []string // names of models that lead to them, besides the usual ones

	hook, stop  []argument // before_start and stop.command
	self        string
	host        string
	args        []argument
	env         []string // of the entry
	presetEnv   []string
	script      int  // as in preset
	pins        bool // a device becomes variables of the environment
	naming      naming
	version     VersionProbe
	unavailable string
}

// New makes the catalog of the entries and adds the presets and the built-in
// types that no entry replaces. self is the absolute path of the hive binary, which is the
// program of the reference worker. The first mistake is returned as an
// *EntryError. New does not block.
func New(entries []Entry, self string) (*Catalog, error) {
	known := presets()
	c := &Catalog{self: self, types: make(map[string]*Type, len(entries)+len(known)+3)}
	for i := range entries {
		t, wrong := newType(i, &entries[i], known, self)
		if len(wrong) > 0 {
			return nil, wrong[0]
		}
		// Neither wins: which of the two counts would be anybody's guess.
		if c.types[t.Name] != nil {
			return nil, &EntryError{Index: i, File: t.File, Name: t.Name, Key: "name", Reason: "the name is already used by another entry"}
		}
		t.Order = i
		c.types[t.Name] = t
	}
	if err := c.checkOrder(entries); err != nil {
		return nil, err
	}
	if err := c.addBuiltins(known, self); err != nil {
		return nil, err
	}
	return c, c.checkServed(entries)
}

// Mistakes is what is wrong with an entry, as far as one mistake does not hide another. self
// is as in New.
func Mistakes(e Entry, self string) []*EntryError {
	_, wrong := newType(0, &e, presets(), self)
	return wrong
}

// WithUser returns a catalog in which the types whose entries name no user have this
// one; with an empty name it is c itself. c stays as it is.
func (c *Catalog) WithUser(name string) *Catalog {
	if name == "" {
		return c
	}
	with := func(t *Type) *Type {
		if t.User != "" {
			return t
		}
		// A copy: c may be in use.
		own := *t
		own.User = name
		return &own
	}
	next := &Catalog{self: c.self, types: make(map[string]*Type, len(c.types)), reference: with(c.reference)}
	for name, t := range c.types {
		next.types[name] = with(t)
	}
	return next
}

// Type returns the type of that name; names are compared exactly.
func (c *Catalog) Type(name string) (*Type, bool) {
	t, ok := c.types[name]
	return t, ok
}

// FixedPorts returns the ports that types have for themselves, also those that
// follow the fixed one where a worker leases several.
func (c *Catalog) FixedPorts() []uint16 {
	var ports []uint16
	for _, t := range c.Types() {
		for i := 0; t.Port != 0 && i < t.Ports; i++ {
			ports = append(ports, t.Port+uint16(i))
		}
	}
	return ports
}

// Reference returns the built-in type of the reference worker, which the
// self-test starts, also where an entry has taken its name.
func (c *Catalog) Reference() *Type { return c.reference }

// Self is the program of the reference worker.
func (c *Catalog) Self() string { return c.self }

// Types returns all types by name.
func (c *Catalog) Types() []*Type {
	return slices.SortedFunc(maps.Values(c.types), func(a, b *Type) int { return strings.Compare(a.Name, b.Name) })
}

// UsesModel reports whether a spawn needs a model: the command refers to
// .Model outside of a condition on .Model itself. It is decided from the
// templates' parse trees, so no model at all is tried.
func (t *Type) UsesModel() bool {
	return slices.ContainsFunc(t.args, func(a argument) bool { return needsModel(a.tmpl.Root) })
}

// Unavailable says why nothing can be spawned of this type; empty when it can.
func (t *Type) Unavailable() string { return t.unavailable }

// Command returns the command's arguments as configured, templates unexecuted.
func (t *Type) Command() []string {
	out := make([]string, len(t.args))
	for i, a := range t.args {
		out[i] = a.text
	}
	return out
}

// Env returns the entry's environment: NAME=value, or NAME for a variable that
// is passed through from hive's own environment. The values may be secrets:
// they are for hive/proc only and must not be shown, logged or stored.
func (t *Type) Env() []string { return slices.Clone(t.env) }

// HasCommands reports whether anything is run before a start or instead of signals.
func (t *Type) HasCommands() bool { return len(t.hook)+len(t.stop) > 0 }

// Host is the address a worker of this type binds.
func (t *Type) Host() string { return or(t.host, loopback) }

func newType(index int, e *Entry, known map[string]*preset, self string) (*Type, []*EntryError) {
	var wrong []*EntryError
	fail := func(key string, err error) {
		wrong = append(wrong, &EntryError{Index: index, File: e.File, Name: e.Name, Key: key, Reason: err.Error()})
	}
	e.check(func(key, format string, a ...any) { fail(key, fmt.Errorf(format, a...)) })
	p, key, err := e.base(known)
	if err != nil {
		fail(key, err)
		return nil, wrong
	}
	params, key, err := e.params(p.params)
	parsed := err == nil
	if err != nil {
		fail(key, err)
	}
	t := &Type{
		Name: e.Name, Source: SourceConfiguration, Preset: p.name, Description: or(p.description, "from the configuration"),
		BasePath: e.BasePath, Model: e.Model, Device: e.Device, Params: params,
		Port: uint16(e.Port), Ports: max(1, e.Ports),
		Ready: e.Ready.over(p.ready(e)), Stop: e.Stop.over(p.stop()),
		File: e.File, self: self, host: e.Host, env: slices.Clone(e.Env),
		presetEnv: p.env, script: p.script, pins: p.pins, version: p.version,
	}
	// Only worker_install writes files of types.d.
	if e.File != "" {
		t.Source = SourceInstalled
	}
	t.Ready.AnyListener = e.Listener == "any"
	t.Dir, t.User, t.NoNewPrivs, t.EnvFile, t.Autostart, t.Reload = e.Dir, e.User, e.NoNewPrivileges, e.EnvFile, e.Autostart, e.Reload == "restart"
	t.StartAfter = slices.Clone(e.StartAfter)
	t.Serves, t.Served, t.naming = e.Serve.serves(p), slices.Clone(e.Serve.Names), p.naming
	// After Ready, whose path is the default of the liveness probe.
	t.Live, t.Restart = e.Live.spec(t.Ready), e.Restart.spec(e.Autostart)
	if err := t.CheckDevice(e.Device); err != nil {
		fail("device", err)
	}
	t.unavailable = p.noScript(t)
	if key, err := t.parse(slices.Concat(p.command, p.naming.arguments(e)), e.Program, e.Args); err != nil {
		fail(key, err)
		parsed = false
	}
	if t.hook, err = parseArguments("before_start", e.BeforeStart); err != nil {
		fail("before_start", err)
		parsed = false
	}
	if t.stop, err = parseArguments("stop.command", e.Stop.Command); err != nil {
		fail("stop.command", err)
		parsed = false
	}
	// Last, since it executes all that was parsed above.
	if parsed {
		if key, err := t.trySample(); err != nil {
			fail(key, err)
		}
	}
	return t, wrong
}

// parse makes the type's arguments of a command, a program that replaces its
// first element unless it is empty, and what is appended. On an error it also
// returns the key at fault.
func (t *Type) parse(command []string, program string, more []string) (key string, err error) {
	command = slices.Clone(command)
	if program != "" {
		command[0] = program
	}
	for i, text := range append(command, more...) {
		// The key under which the argument stands, for errors and for Changes.
		key := fmt.Sprintf("command[%d]", i)
		if i == 0 && program != "" {
			key = "program"
		}
		if i >= len(command) {
			key = fmt.Sprintf("args[%d]", i-len(command))
		}
		a, err := parseArgument(key, text)
		if err != nil {
			return key, err
		}
		t.args = append(t.args, a)
	}
	return "", nil
}

// Names returns the names of all worker types, sorted.
func (c *Catalog) Names() []string { return slices.Sorted(maps.Keys(c.types)) }

// checkOrder checks what entries say of the order in which they are started: start_after
// names autostart entries, and leads to no circle, in which all would wait for one another.
func (c *Catalog) checkOrder(entries []Entry) error {
	for i := range entries {
		e := &entries[i]
		fail := func(n int, format string, a ...any) error {
			return &EntryError{Index: i, File: e.File, Name: e.Name, Key: fmt.Sprintf("start_after[%d]", n), Reason: fmt.Sprintf(format, a...)}
		}
		for n, name := range e.StartAfter {
			other := c.types[name]
			switch {
			case !e.Autostart:
				return fail(n, "counts for entries with autostart: true only, and this one has none")
			case other == nil:
				return fail(n, "%q: there is no entry of that name", name)
			case !other.Autostart:
				return fail(n, "%q: expected an entry with autostart: true, which it is not", name)
			}
			if path := c.pathTo(e.Name, other, nil); path != nil {
				return fail(n, "%q: leads back to %s (%s): each would wait for the others", name, e.Name, strings.Join(append([]string{e.Name}, path...), " after "))
			}
		}
	}
	return nil
}

// pathTo is how t leads to the entry of that name by start_after; nil: it does not.
func (c *Catalog) pathTo(name string, t *Type, seen []string) []string {
	if t == nil || slices.Contains(seen, t.Name) {
		return nil
	}
	seen = append(seen, t.Name)
	if t.Name == name {
		return seen
	}
	for _, next := range t.StartAfter {
		if path := c.pathTo(name, c.types[next], slices.Clone(seen)); path != nil {
			return path
		}
	}
	return nil
}

// checkServed refuses a name of a model that two entries claim: which of them a request is for
// would be anybody's guess.
func (c *Catalog) checkServed(entries []Entry) error {
	claimed := map[string]string{}
	for name := range c.types {
		claimed[name] = name
	}
	for i := range entries {
		e := &entries[i]
		for n, name := range e.Serve.Names {
			if other, ok := claimed[name]; ok {
				return &EntryError{
					Index: i, File: e.File, Name: e.Name, Key: fmt.Sprintf("serve.names[%d]", n),
					Reason: fmt.Sprintf("%q: entry %s has that name already; every name leads to one entry", name, other),
				}
			}
			claimed[name] = e.Name
		}
	}
	return nil
}
