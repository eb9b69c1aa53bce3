package config_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// documented is the rows of the table in docs/configuration-reference.md that begins with
// this head, as cells.
func documented(t *testing.T, head string) (rows [][]string) {
	t.Helper()
	raw, err := os.ReadFile(manual)
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(raw), head+"\n")
	require.True(t, found, "there is no table %q", head)
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		if strings.HasPrefix(line, "|---") {
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(strings.TrimSpace(strings.ReplaceAll(line, `\|`, "/")), "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, cells)
	}
	return rows
}

// manual is found before a test changes the directory.
var manual = func() string {
	path, err := filepath.Abs("../../../docs/configuration-reference.md")
	if err != nil {
		panic(err)
	}
	return path
}()

var quoted = regexp.MustCompile("`([^`]*)`")

// words are what stands in backquotes.
func words(cell string) (all []string) {
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

const (
	settingsHead = "| key in the file | flag | variable | default | |"
	entriesHead  = "| key | default | |"
	presetsHead  = "| preset | command | ready when | model | params |"
)

// The documented presets are the ones there are, with their probe, parameters and
// whether they need a model.
func TestDocumentedPresets(t *testing.T) {
	types, err := catalog.New(nil, "/usr/bin/hive")
	require.NoError(t, err)
	type preset struct {
		ready  string
		model  bool
		params []string
	}
	said, is := map[string]preset{}, map[string]preset{}
	for _, row := range documented(t, presetsHead) {
		require.Len(t, row, 5, "%q", row)
		p := preset{ready: words(row[2])[0], model: strings.HasPrefix(row[3], "required")}
		for _, m := range regexp.MustCompile("`([a-z_]+)`[:,]").FindAllStringSubmatch(row[4], -1) {
			p.params = append(p.params, m[1])
		}
		slices.Sort(p.params)
		said[words(row[0])[0]] = p
	}
	for _, typ := range types.Types() {
		if typ.Source != catalog.SourcePreset {
			continue
		}
		is[typ.Name] = preset{typ.Ready.Path, typ.UsesModel(), slices.Sorted(maps.Keys(typ.Params))}
	}
	require.Equal(t, is, said)
}

func TestDocumentedSettings(t *testing.T) {
	var keys []string
	for _, row := range documented(t, settingsHead) {
		require.Len(t, row, 5, "%q", row)
		key := strings.Join(words(row[0]), "")
		if key == "" {
			key = strings.TrimPrefix(words(row[1])[0], "--") // port is no key of the file
		}
		keys = append(keys, key)
		var flags []string
		if f := config.FlagOf(key); f != "" {
			flags = []string{"--" + f}
		}
		require.Equal(t, flags, words(row[1]), "flag of %s", key)
		require.Equal(t, config.EnvOf(key), words(row[2]), "variables of %s", key)
		if slices.Contains(config.Defaults(), key) {
			require.NotEmpty(t, words(row[3]), "%s has a default", key)
		}
	}
	require.ElementsMatch(t, config.Keys(), keys)
}

// Written into a file, the documented defaults make the configuration that is made
// of none.
func TestDocumentedDefaults(t *testing.T) {
	p := newPlace(t)
	bare, err := p.load(t)
	require.NoError(t, err)
	tried := 0
	for _, row := range documented(t, settingsHead) {
		key := strings.Join(words(row[0]), "")
		value := words(row[3])
		switch {
		case key == "data_dir": // another for each user
			require.Equal(t, []string{"/var/lib/hive", "$XDG_STATE_HOME/hive", "~/.local/state/hive"}, value)
			require.Equal(t, filepath.Join(p.dir, "home/.local/state/hive"), bare.DataDir)
			require.Equal(t, "/var/lib/hive", loadAsRoot(t, p).DataDir)
			continue
		case key == "log_level": // said by nobody is not the same as info: a terminal gets warn
			require.Equal(t, []string{"info", "warn"}, value)
			require.Empty(t, bare.LogLevel)
			continue
		case key == "advertise" || key == "": // of listen
			require.Equal(t, []string{"listen"}, value)
			continue
		case len(value) == 0:
			require.NotContains(t, config.Defaults(), key)
			continue
		}
		got, err := p.load(t, "--config", p.write(t, "said.yaml", nested(key, value[0])))
		require.NoError(t, err, key)
		got.File = bare.File
		require.Empty(t, cmp.Diff(bare, got, compare...), "%s is not %s by default", key, value[0])
		tried++
	}
	require.Greater(t, tried, 15)

	got, err := p.load(t, "--config", p.write(t, "said.yaml", "jobs: {keep: 10001}"))
	require.NoError(t, err)
	got.File = bare.File
	require.NotEmpty(t, cmp.Diff(bare, got, compare...), "another value makes a difference")
}

var compare = []cmp.Option{cmpopts.EquateComparable(config.Address{}), cmpopts.EquateEmpty()}

func loadAsRoot(t *testing.T, p place) *config.Config {
	t.Helper()
	fs := pflag.NewFlagSet("hive", pflag.ContinueOnError)
	config.Flags(fs)
	cfg, err := config.Load(config.Options{Flags: fs, UID: 0, EtcDir: filepath.Join(p.dir, "etc")})
	require.NoError(t, err)
	return cfg
}

// nested writes a.b as {a: {b: value}}.
func nested(key, value string) string {
	if group, name, ok := strings.Cut(key, "."); ok {
		return fmt.Sprintf("%s: {%s: %s}\n", group, name, value)
	}
	return fmt.Sprintf("%s: %s\n", key, value)
}

func TestDocumentedEntryKeys(t *testing.T) {
	p := newPlace(t)
	var keys []string
	tried := 0
	for _, row := range documented(t, entriesHead) {
		require.Len(t, row, 3, "%q", row)
		key := words(row[0])[0]
		keys = append(keys, key)
		value := words(row[1])
		if len(value) == 0 || slices.Contains([]string{"command", "preset", "live.path"}, key) { // said in words
			continue
		}
		// Nothing of live counts unless something of it is said.
		group, name, _ := strings.Cut(key, ".")
		bare, said := entryOf(t, p, ""), entryOf(t, p, nested(key, value[len(value)-1]))
		if group == "live" {
			bare = entryOf(t, p, `live: {path: ""}`)
			said = entryOf(t, p, fmt.Sprintf(`live: {path: "", %s: %s}`, name, value[len(value)-1]))
		}
		require.Empty(t, cmp.Diff(bare, said), "%s is not %s by default", key, value[len(value)-1])
		tried++
	}
	require.ElementsMatch(t, config.EntryKeys(), keys)
	require.Greater(t, tried, 15)
	require.NotEmpty(t, cmp.Diff(entryOf(t, p, ""), entryOf(t, p, "restart: {max: 6}")), "another value makes a difference")
}

// made is what becomes of an entry: the type, and what a spawn of it records.
type made struct {
	Ports             int
	Autostart, Reload bool
	Host              string
	Spec              store.Spec
}

// entryOf makes one of a command and of more.
func entryOf(t *testing.T, p place, more string) made {
	t.Helper()
	file := p.write(t, "entry.yaml", "workers:\n  - name: x\n    command: [\"{{.Hive}}\"]\n    "+more+"\n")
	cfg, err := p.load(t, "--config", file)
	require.NoError(t, err, more)
	types, err := catalog.New(cfg.Workers, "/usr/bin/hive")
	require.NoError(t, err, more)
	typ, ok := types.Type("x")
	require.True(t, ok)
	spec, err := typ.Render(catalog.Values{Port: 8080})
	require.NoError(t, err)
	return made{typ.Ports, typ.Autostart, typ.Reload, typ.Host(), spec}
}

var fence = regexp.MustCompile("(?s)```yaml\\n(.*?)```")

// The configurations in these documents are ones that hive takes. The first of
// moving.md is llama-swap's.
func TestDocumentedFiles(t *testing.T) {
	p := newPlace(t)
	for file, want := range map[string]int{"moving.md": 4, "install.md": 1} {
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(manual), file))
		require.NoError(t, err)
		tried := 0
		for _, m := range fence.FindAllStringSubmatch(string(raw), -1) {
			if strings.Contains(m[1], "\nmodels:") {
				continue
			}
			cfg, err := p.load(t, "--config", p.write(t, "said.yaml", m[1]))
			require.NoError(t, err, "%s: %s", file, m[1])
			_, err = catalog.New(cfg.Workers, "/usr/bin/hive")
			require.NoError(t, err, "%s: %s", file, m[1])
			require.NotEmpty(t, cfg.Workers)
			tried++
		}
		require.Equal(t, want, tried, file)
	}
}
