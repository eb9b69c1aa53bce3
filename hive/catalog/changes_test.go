package catalog_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// plainEntry is what the rows of the table below change one key of.
func plainEntry() catalog.Entry {
	return catalog.Entry{Name: "web", Command: []string{"/bin/web", "{{.Port}}"}, Params: plain(map[string]string{"a": "1"}), Live: catalog.LiveEntry{Failures: 2}}
}

// changeOf is one row: what is changed in an entry, and the keys that are found.
type changeOf struct {
	entry string // the key of the entry, as mapstructure names it
	edit  func(*catalog.Entry)
	start []string
	later []string
}

func changesOfEveryKey() []changeOf {
	sec := ptr(time.Second)
	start := func(key string, edit func(*catalog.Entry)) changeOf { return changeOf{key, edit, []string{key}, nil} }
	later := func(key string, edit func(*catalog.Entry)) changeOf { return changeOf{key, edit, nil, []string{key}} }
	return []changeOf{
		{
			"preset", func(e *catalog.Entry) {
				e.Preset, e.Command = "comfyui", nil
				e.Params = plain(map[string]string{"main": "/m.py", "a": "1"})
			},
			[]string{"live.path", "params.base_directory", "params.main", "preset", "ready.path"},
			nil,
		},
		start("program", func(e *catalog.Entry) { e.Program = "/opt/web" }),
		start("command", func(e *catalog.Entry) { e.Command = []string{"/bin/web2", "{{.Port}}"} }),
		start("command", func(e *catalog.Entry) { e.Command = []string{"/bin/web", "-p", "{{.Port}}"} }),
		start("args", func(e *catalog.Entry) { e.Args = []string{"-v"} }),
		start("host", func(e *catalog.Entry) { e.Host = "0.0.0.0" }),
		start("base_path", func(e *catalog.Entry) { e.BasePath = "/below" }),
		start("model", func(e *catalog.Entry) { e.Model = "m" }),
		start("device", func(e *catalog.Entry) { e.Device = "0" }),
		{"params", func(e *catalog.Entry) { e.Params = plain(map[string]string{"a": "2", "b": ""}) }, []string{"params.a", "params.b"}, nil},
		later("params.a", func(e *catalog.Entry) { e.Params["a"] = catalog.ParamEntry{Default: ptr("1"), Pattern: ptr("[0-9]+")} }),
		later("params.a", func(e *catalog.Entry) { e.Params["a"] = catalog.ParamEntry{Default: ptr("1"), Fixed: ptr(true)} }),
		start("env", func(e *catalog.Entry) { e.Env = []string{"TOKEN=secret"} }),
		later("port", func(e *catalog.Entry) { e.Port = 9000 }),
		later("ports", func(e *catalog.Entry) { e.Ports = 2 }),
		start("listener", func(e *catalog.Entry) { e.Listener = "any" }),
		later("serve.enabled", func(e *catalog.Entry) { e.Serve.Enabled = ptr(true) }),
		{"serve.names", func(e *catalog.Entry) { e.Serve.Names = []string{"gpt"} }, nil, []string{"serve.enabled", "serve.names"}},
		start("dir", func(e *catalog.Entry) { e.Dir = "/srv" }),
		start("user", func(e *catalog.Entry) { e.User = "nobody" }),
		start("no_new_privileges", func(e *catalog.Entry) { e.NoNewPrivileges = ptr(false) }),
		start("env_file", func(e *catalog.Entry) { e.EnvFile = "/etc/env" }),
		start("before_start", func(e *catalog.Entry) { e.BeforeStart = []string{"prepare"} }),
		{"autostart", func(e *catalog.Entry) { e.Autostart = true }, []string{"restart.policy"}, []string{"autostart"}},
		later("reload", func(e *catalog.Entry) { e.Reload = "restart" }),
		{"ready.path", func(e *catalog.Entry) { e.Ready.Path = ptr("/up") }, []string{"live.path", "ready.path"}, nil},
		start("ready.scheme", func(e *catalog.Entry) { e.Ready.Scheme = "https" }),
		start("ready.status", func(e *catalog.Entry) { e.Ready.Status = 204 }),
		start("ready.stall", func(e *catalog.Entry) { e.Ready.Stall = sec }),
		start("ready.timeout", func(e *catalog.Entry) { e.Ready.Timeout = sec }),
		start("live.path", func(e *catalog.Entry) { e.Live.Path = ptr("/live") }),
		start("live.interval", func(e *catalog.Entry) { e.Live.Interval = ptr(20 * time.Second) }),
		start("live.timeout", func(e *catalog.Entry) { e.Live.Timeout = sec }),
		start("live.failures", func(e *catalog.Entry) { e.Live.Failures = 9 }),
		start("live.action", func(e *catalog.Entry) { e.Live.Action = "report" }),
		start("stop.signal", func(e *catalog.Entry) { e.Stop.Signal = []string{"INT"} }),
		start("stop.grace", func(e *catalog.Entry) { e.Stop.Grace = sec }),
		start("stop.scope", func(e *catalog.Entry) { e.Stop.Scope = "tree" }),
		start("stop.command", func(e *catalog.Entry) { e.Stop.Command = []string{"bye"} }),
		start("restart.policy", func(e *catalog.Entry) { e.Restart.Policy = "always" }),
		start("restart.max", func(e *catalog.Entry) { e.Restart.Max = ptr(9) }),
		start("restart.window", func(e *catalog.Entry) { e.Restart.Window = sec }),
		start("restart.backoff", func(e *catalog.Entry) { e.Restart.Backoff = ptr(2 * time.Second) }),
		start("restart.max_backoff", func(e *catalog.Entry) { e.Restart.MaxBackoff = ptr(time.Minute) }),
	}
}

func TestChangesOfEveryKey(t *testing.T) {
	before := one(t, plainEntry())
	require.True(t, before.Changes(one(t, plainEntry())).None())
	for _, row := range changesOfEveryKey() {
		e := plainEntry()
		row.edit(&e)
		after := one(t, e)
		require.Equal(t, catalog.Changes{Start: row.start, Later: row.later}, before.Changes(after), row.entry)
		require.Equal(t, catalog.Changes{Start: row.start, Later: row.later}, after.Changes(before), "%s, back", row.entry)
	}
}

// A key that is added to Entry and not to Changes would be changed without
// anybody hearing of it.
func TestNoKeyIsForgotten(t *testing.T) {
	var known []string
	for _, row := range changesOfEveryKey() {
		known = append(known, row.entry)
	}
	known = append(known, "start_after") // which needs a second entry: TestStartAfter
	var walk func(typ reflect.Type, prefix string)
	walk = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			key := prefix + typ.Field(i).Tag.Get("mapstructure")
			switch {
			case key == "name", key == "-", key == "allow": // File is where it comes from; allow is in the policy, and counts at once
			case typ.Field(i).Type.Kind() == reflect.Struct:
				walk(typ.Field(i).Type, key+".")
			default:
				require.True(t, slices.Contains(known, key), "no row changes %s", key)
			}
		}
	}
	walk(reflect.TypeFor[catalog.Entry](), "")
}

func TestChangesNeverHoldValues(t *testing.T) {
	before, after := plainEntry(), plainEntry()
	before.Env, after.Env = []string{"TOKEN=secret-one"}, []string{"TOKEN=secret-two", "OTHER"}
	got := one(t, before).Changes(one(t, after))
	require.Equal(t, []string{"env"}, got.All())
	require.NotContains(t, strings.Join(got.All(), " "), "secret")
}

func TestWhatIsSaidAnywayIsNoChange(t *testing.T) {
	c, err := catalog.New(nil, self)
	require.NoError(t, err)
	plain, _ := c.Type("llama-server")
	said := one(t, catalog.Entry{Name: "llama-server", Host: "127.0.0.1", Ports: 1, Ready: catalog.ReadyEntry{Status: 200}})
	require.True(t, plain.Changes(said).None())

	cuda, _ := c.Type("cuda") // no program is configured
	require.Equal(t, []string{"command"}, cuda.Changes(one(t, catalog.Entry{Name: "cuda", Command: []string{"x"}})).Start)
}

// What the record of a worker tells is what Changes tells, but for what is not
// in a spec.
func TestSpecChangesAgreeWithChanges(t *testing.T) {
	render := func(e catalog.Entry) store.Spec {
		spec, err := one(t, e).Render(catalog.Values{Port: 8080})
		require.NoError(t, err)
		return spec
	}
	was := render(plainEntry())
	require.Empty(t, catalog.SpecChanges(was, render(plainEntry())))
	for _, row := range changesOfEveryKey() {
		e := plainEntry()
		row.edit(&e)
		var want []string
		for _, key := range row.start {
			if catalog.InSpec(key) {
				want = append(want, key)
			}
		}
		switch row.entry {
		case "preset":
			want = append(slices.DeleteFunc(want, func(key string) bool { return key == "preset" }), "command")
		case "program", "args":
			want = []string{"command"}
		}
		slices.Sort(want)
		require.Equal(t, want, catalog.SpecChanges(was, render(e)), row.entry)
	}
}

func TestSpecChangesOfOlderRecords(t *testing.T) {
	spec, err := one(t, catalog.Entry{Name: "web", Command: []string{"/bin/web"}}).Render(catalog.Values{Port: 8080})
	require.NoError(t, err)
	old := spec
	old.Restart = store.Restart{} // recorded before there were restarts
	require.Empty(t, catalog.SpecChanges(old, spec))
	old.Argv = []string{"/elsewhere/web"}
	require.Equal(t, []string{"command"}, catalog.SpecChanges(old, spec))
	spec.Argv = []string{"web"} // it is not installed now
	require.Empty(t, catalog.SpecChanges(old, spec))
}
