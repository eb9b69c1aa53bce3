package catalog

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"rbeehive/store"
)

// Changes is what differs between two definitions of a type, as keys of an entry
// ("command", "ready.path", "params.ctx"), sorted. Values are never in it: those
// of env may be secrets.
type Changes struct {
	// Start are the keys that make a new start of a worker another one.
	Start []string
	// Later are the keys that do not: a worker keeps its ports over every new
	// start, and autostart and reload are for hive itself.
	Later []string
}

// None reports whether nothing differs.
func (c Changes) None() bool { return len(c.Start)+len(c.Later) == 0 }

// All returns all keys, sorted.
func (c Changes) All() []string { return slices.Sorted(slices.Values(slices.Concat(c.Start, c.Later))) }

// Changes compares the definition of a type with one that is to replace it. What an entry
// leaves out counts as its default, so an entry that only says what its preset says anyway
// has not changed. The content of an env_file is not compared.
func (t *Type) Changes(next *Type) Changes {
	d := differ{}
	d.start("preset", t.Preset != next.Preset)
	d.command(t, next)
	d.start("args", !slices.Equal(t.words("args"), next.words("args")))
	d.start("host", t.Host() != next.Host())
	d.start("base_path", t.BasePath != next.BasePath)
	d.start("model", t.Model != next.Model)
	d.start("device", t.Device != next.Device)
	d.params(t.Params, next.Params)
	d.start("env", !slices.Equal(t.env, next.env))
	d.start("env_file", t.EnvFile != next.EnvFile)
	d.start("dir", t.Dir != next.Dir)
	d.start("user", t.User != next.User)
	d.start("no_new_privileges", !same(t.NoNewPrivs, next.NoNewPrivs))
	d.start("before_start", !slices.Equal(texts(t.hook), texts(next.hook)))
	d.ready(t.Ready, next.Ready)
	d.live(t.Live, next.Live)
	d.stop(t.Stop, next.Stop)
	d.start("stop.command", !slices.Equal(texts(t.stop), texts(next.stop)))
	d.restart(t.Restart, next.Restart)
	// A worker keeps its ports over every restart, so these do not make it stale.
	d.later("port", t.Port != next.Port)
	d.later("ports", t.Ports != next.Ports)
	d.later("autostart", t.Autostart != next.Autostart)
	d.later("start_after", !slices.Equal(t.StartAfter, next.StartAfter))
	d.later("reload", t.Reload != next.Reload)
	d.later("serve.enabled", t.Serves != next.Serves)
	d.later("serve.names", !slices.Equal(t.Served, next.Served))
	slices.Sort(d.Start)
	slices.Sort(d.Later)
	return d.Changes
}

// SpecChanges compares what a worker was started as with what a new start would
// be, as far as a spec says it: it knows nothing of env, env_file and
// before_start. The keys are those of Changes, "command" standing for all that
// makes the command line. Argv[0] counts only if both are paths.
func SpecChanges(was, next store.Spec) []string {
	d := differ{}
	d.start("command", !sameArgv(was.Argv, next.Argv))
	d.start("host", was.Host != next.Host)
	d.start("base_path", was.BasePath != next.BasePath)
	d.start("model", was.Model != next.Model)
	d.start("device", was.Device != next.Device)
	for _, key := range differing(was.Params, next.Params) {
		d.start("params."+key, true)
	}
	d.start("dir", was.Dir != next.Dir)
	d.start("user", was.User != next.User)
	d.start("no_new_privileges", !same(was.NoNewPrivs, next.NoNewPrivs))
	d.ready(was.Ready, next.Ready)
	d.live(was.Live, next.Live)
	d.stop(was.Stop, next.Stop)
	d.start("stop.command", !slices.Equal(was.Stop.Command, next.Stop.Command))
	d.restart(was.Restart, next.Restart)
	slices.Sort(d.Start)
	return d.Start
}

// InSpec reports whether SpecChanges would see that a key of Changes.Start has
// changed.
func InSpec(key string) bool { return key != "env" && key != "env_file" && key != "before_start" }

// differ collects the keys that differ.
type differ struct{ Changes }

func (d *differ) start(key string, differs bool) {
	if differs {
		d.Start = append(d.Start, key)
	}
}

func (d *differ) later(key string, differs bool) {
	if differs {
		d.Later = append(d.Later, key)
	}
}

// params compares parameters. What a spawn may set changes no start.
func (d *differ) params(a, b map[string]Param) {
	for _, key := range slices.Sorted(maps.Keys(merged(a, b))) {
		p, ina := a[key]
		q, inb := b[key]
		d.start("params."+key, ina != inb || p.Default != q.Default)
		d.later("params."+key, ina && inb && p.Default == q.Default && (p.Fixed != q.Fixed || p.Pattern != q.Pattern))
	}
}

func (d *differ) ready(a, b store.Ready) {
	d.start("ready.path", a.Path != b.Path)
	d.start("ready.scheme", a.TLS != b.TLS)
	d.start("ready.status", a.Status != b.Status)
	d.start("ready.stall", a.Stall != b.Stall)
	d.start("ready.timeout", a.Timeout != b.Timeout)
	d.start("listener", a.AnyListener != b.AnyListener)
}

func (d *differ) live(a, b store.Live) {
	if a.Interval == 0 && b.Interval == 0 {
		return // neither is looked at: nothing else of it matters
	}
	d.start("live.path", a.Path != b.Path)
	d.start("live.interval", a.Interval != b.Interval)
	d.start("live.timeout", a.AnswerTimeout() != b.AnswerTimeout())
	d.start("live.failures", a.Failures != b.Failures)
	d.start("live.action", a.Restart != b.Restart)
}

func (d *differ) stop(a, b store.Stop) {
	d.start("stop.signal", !slices.Equal(a.Signals, b.Signals))
	d.start("stop.grace", a.Grace != b.Grace)
	d.start("stop.scope", a.Tree != b.Tree)
}

func (d *differ) restart(a, b store.Restart) {
	none := store.Restart{} // as a record of an older hive has it, and a type that cannot be started
	// Both mean never: the worker would be stale for no reason.
	if a == none && b.Policy == store.RestartNever || b == none && a.Policy == store.RestartNever {
		return
	}
	d.start("restart.policy", a.Policy != b.Policy)
	d.start("restart.max", a.Max != b.Max)
	d.start("restart.window", a.Window != b.Window)
	d.start("restart.backoff", a.Backoff != b.Backoff)
	d.start("restart.max_backoff", a.MaxBackoff != b.MaxBackoff)
}

// command compares the command lines but for args. The first word is that of
// program where either says so. What comes with another preset is not told twice.
func (d *differ) command(a, b *Type) {
	wordsA, wordsB := a.words("command"), b.words("command")
	programs := a.programmed() || b.programmed()
	if programs && len(a.args) > 0 && len(b.args) > 0 {
		d.start("program", a.args[0].text != b.args[0].text)
		wordsA, wordsB = a.words("command")[1:], b.words("command")[1:]
	}
	if a.Preset == b.Preset {
		d.start("command", a.unavailable != b.unavailable || !slices.Equal(wordsA, wordsB))
	}
}

// programmed reports whether program replaces the first word of the command.
func (t *Type) programmed() bool { return len(t.args) > 0 && t.args[0].key == "program" }

// words are the arguments that stand under a key of the entry; the command's
// include its program.
func (t *Type) words(key string) (words []string) {
	for i, a := range t.args {
		// The first word is the command's, even if it stands under program.
		own, _, _ := strings.Cut(a.key, "[")
		if own == key || key == "command" && i == 0 {
			words = append(words, a.text)
		}
	}
	return words
}

func texts(args []argument) (list []string) {
	for _, a := range args {
		list = append(list, a.text)
	}
	return list
}

// differing returns the keys whose values differ, or that only one has.
func differing(a, b map[string]string) (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(merged(a, b))) {
		va, ina := a[key]
		if vb, inb := b[key]; ina != inb || va != vb {
			keys = append(keys, key)
		}
	}
	return keys
}

func same(a, b *bool) bool { return a == b || a != nil && b != nil && *a == *b }

// sameArgv compares two command lines. A program that was not looked up, because
// it is not there now, tells nothing.
func sameArgv(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	// A name on one side and a path on the other cannot be compared.
	found := strings.Contains(cmp.Or(a[0], "/"), "/") && strings.Contains(cmp.Or(b[0], "/"), "/")
	return slices.Equal(a[1:], b[1:]) && (!found || a[0] == b[0])
}
