package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive/catalog"
)

const typesDir = "home/.local/state/hive/types.d"

func names(c *config.Config) (list []string) {
	for _, e := range c.Workers {
		list = append(list, e.Name)
	}
	return list
}

func TestInstalledTypes(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", "workers: [{name: web, command: [a]}]\n")
	c, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, []string{"web"}, names(c), "there is no directory yet")

	p.write(t, typesDir+"/chat.yaml", "# a comment\nname: \"chat\"\npreset: \"llama-server\"\nparams: {a_b: {default: 1, pattern: '[0-9]+'}}\nstop: {grace: 3s}\n")
	p.write(t, typesDir+"/web.yaml", "name: web\ncommand: [b]\n")
	p.write(t, typesDir+"/.chat.yaml.123", "half a fi")
	c, err = p.load(t)
	require.NoError(t, err)
	require.Equal(t, []string{"web", "chat"}, names(c))
	require.Equal(t, []string{"a"}, c.Workers[0].Command, "hive.yaml wins")
	require.Equal(t, []string{filepath.Join(p.dir, typesDir, "web.yaml")}, c.Shadowed)
	chat := c.Workers[1]
	require.Equal(t, filepath.Join(p.dir, typesDir, "chat.yaml"), chat.File)
	require.Equal(t, map[string]catalog.ParamEntry{"a_b": {Default: ptr("1"), Pattern: ptr("[0-9]+")}}, chat.Params)
	require.Equal(t, 3*time.Second, *chat.Stop.Grace)
	types, err := catalog.New(c.Workers, "/bin/hive")
	require.NoError(t, err)
	typ, ok := types.Type("chat")
	require.True(t, ok)
	require.Equal(t, catalog.SourceInstalled, typ.Source)

	p.write(t, typesDir+"/tei.yaml", "name: tei\npreset: tei\n")
	require.NoError(t, os.Remove(filepath.Join(p.dir, typesDir, "chat.yaml")))
	p.write(t, "hive.yaml", "half a fi") // not looked at
	next, err := c.WithTypes(c.DataDir)
	require.NoError(t, err)
	require.Equal(t, []string{"web", "tei"}, names(next))
	require.Equal(t, []string{"web", "chat"}, names(c), "the one before is as it was")
}

// What is not as worker_install writes it is told with file and line, as a mistake
// in hive.yaml is.
func TestDamagedTypes(t *testing.T) {
	for _, tt := range []struct{ name, file, doc, want string }{
		{"syntax", "a.yaml", "name: a\npreset: [\n", "a.yaml:"},
		{"cut off", "a.yaml", "", "a.yaml:1: it is empty"},
		{"no mapping", "a.yaml", "- name: a\n", "a.yaml:1: expected 'key: value' lines"},
		{"unknown key", "a.yaml", "name: a\nprest: tei\n", `a.yaml:2: unknown key "prest"; did you mean "preset"?`},
		{"a key that is none", "a.yaml", "name: a\npreset: tei\nfile: /etc/passwd\n", `a.yaml:3: unknown key "file"`},
		{"twice", "a.yaml", "name: a\nname: a\n", `already defined at line 1`},
		{"a wrong type", "a.yaml", "name: a\npreset: tei\nautostart: maybe\n", "a.yaml:3: autostart: maybe: expected true or false"},
		{"deep", "a.yaml", "name: a\npreset: tei\nstop: {grace: 5}\n", "a.yaml:3: stop.grace: 5: a duration needs a unit"},
		{"an unknown preset", "a.yaml", "name: a\npreset: nope\n", `a.yaml:2: preset: "nope": expected one of comfyui`},
		{"a template", "a.yaml", "name: a\npreset: tei\nargs:\n  - '{{.Prot}}'\n", "a.yaml:4: args[0]: "},
		{"a pattern", "a.yaml", "name: a\npreset: tei\nparams:\n  x:\n    pattern: '['\n", "a.yaml:5: params.x.pattern: \"[\": expected a regular expression"},
		{"a parameter's key", "a.yaml", "name: a\npreset: tei\nparams:\n  x: {patern: a}\n", `a.yaml:4: params.x: unknown key "patern"; did you mean "pattern"?`},
		{"a parameter's value", "a.yaml", "name: a\npreset: tei\nparams:\n  x:\n    fixed: maybe\n", "a.yaml:5: params.x.fixed: maybe: expected true or false"},
		{"another name", "a.yaml", "preset: tei\nname: b\n", `a.yaml:2: name: "b": expected "a", as the file is called`},
		{"no name", "a.yaml", "preset: tei\n", `a.yaml:1: name: "": expected "a"`},
		{"foreign", "README", "hello\n", "README:1: this directory holds only files NAME.yaml"},
		{"a name no type has", "a b.yaml", "name: a b\n", "a b.yaml:1: this directory holds only"},
		{"a directory", "a.yaml/b.yaml", "name: b\n", "a.yaml:1: this directory holds only"},
		{"a reserved port", "a.yaml", "name: a\npreset: tei\nport: 7835\n", "a.yaml:3: port: 7835 is the port of hive's own API"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			p.write(t, typesDir+"/"+tt.file, tt.doc)
			_, err := p.load(t)
			require.ErrorIs(t, err, config.ErrConfig)
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, filepath.Join(p.dir, typesDir))
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestTypesThatOthersCanChange(t *testing.T) {
	p := newPlace(t)
	path := p.write(t, typesDir+"/a.yaml", "name: a\npreset: tei\n")
	require.NoError(t, os.Chmod(path, 0o622))
	_, err := p.load(t)
	require.ErrorIs(t, err, config.ErrConfig)
	require.ErrorContains(t, err, "a.yaml: can be written to by every user")
	require.ErrorContains(t, err, "run: chmod go-w "+path)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink(p.write(t, "elsewhere.yaml", "name: a\npreset: tei\n"), path))
	_, err = p.load(t)
	require.ErrorContains(t, err, "a.yaml:1: this directory holds only")
}
