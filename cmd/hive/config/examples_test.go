package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
)

// attacks are values that a flag, a path, a list, a shell, nginx or docker would make
// something of.
var attacks = []string{
	"-x", "--trust-remote-code", "/", "/etc", "/etc/shadow", "../etc", "a/../../etc", "~root", "@/etc/shadow", "a b", "a\tb", "a\nb", "a;b", "$(id)", "`id`", "$HOME", "a'b", `a"b`, `a\b`,
	"/usr/share/doc; } server { listen 1; root /root", `x"; autoindex on; "`, "/usr/share/nginx/html; alias /root", "a{b}", "a#b", "a&b", "a|b", "a>b", "a*b", "a=b", "0,capabilities=all",
	`0",capabilities="all`, "all,driver=x", "8192 --chat-template-file /etc/shadow", "8192\n--api-key-file", "0x10;", "", "\u202e1",
}

// asDocumented is every example of an entry that people copy: docs/examples, and what
// the documents show.
func asDocumented(t *testing.T) map[string]string {
	t.Helper()
	docs := filepath.Dir(manual)
	files := map[string]string{}
	for _, pattern := range []string{"examples/*.yaml", "*.md", "examples/*.md", "../README.md", "../packaging/hive.yaml", "../test/docker/hive.yaml"} {
		paths, err := filepath.Glob(filepath.Join(docs, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, paths, pattern)
		for _, path := range paths {
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			if filepath.Ext(path) == ".yaml" {
				files[path] = string(raw)
				continue
			}
			for _, m := range fence.FindAllStringSubmatch(string(raw), -1) {
				if strings.Contains(m[1], "workers:") {
					files[path+": "+m[1]] = m[1]
				}
			}
		}
	}
	return files
}

// shells are programs whose argument behind -c is code.
var shells = regexp.MustCompile(`(^|/)(sh|bash|dash|ash|zsh|ksh|python[0-9.]*|perl|ruby|node|env)$`)

// people are users and groups of examples, who are not on this machine.
var people = strings.NewReplacer("alice", "1000", "prometheus]", "1001]", "gpu-admins", "1002", "students", "1003", "group: hive", "group: 0", "[staff]", "[1004]")

// An example is read as a recipe: what it lets a caller choose does no harm, whoever
// the caller is.
func TestExamplesUnderAttack(t *testing.T) {
	p := newPlace(t)
	tried := 0
	for name, doc := range asDocumented(t) {
		cfg, err := p.load(t, "--config", p.write(t, "example.yaml", people.Replace(doc)))
		require.NoError(t, err, name)
		types, err := catalog.New(cfg.Workers, "/usr/bin/hive")
		require.NoError(t, err, name)
		for _, e := range cfg.Workers {
			typ, _ := types.Type(e.Name)
			for param, said := range e.Params {
				require.True(t, said.Pattern != nil || typ.Params[param].Fixed, "%s: %s: params.%s says what a spawn may set", name, e.Name, param)
			}
			model := "org/name"
			require.NoError(t, typ.Check(catalog.Values{Model: model}), "%s: %s", name, e.Name)
			for param := range typ.Params {
				for _, value := range attacks {
					err := typ.Check(catalog.Values{Model: model, Params: map[string]string{param: value}})
					require.ErrorIs(t, err, catalog.ErrBadParam, "%s: %s: params.%s=%q", name, e.Name, param, value)
					tried++
				}
			}
			for _, device := range attacks {
				if device != "" {
					require.ErrorIs(t, typ.CheckDevice(device), catalog.ErrBadDevice, "%s: %s: device %q", name, e.Name, device)
				}
			}
			for _, command := range [][]string{append(slices.Clone(e.Command), e.Args...), e.BeforeStart, e.Stop.Command} {
				for i, arg := range command {
					if i > 0 && strings.HasPrefix(command[i-1], "-") && strings.HasSuffix(command[i-1], "c") && slices.ContainsFunc(command[:i], shells.MatchString) {
						require.NotContains(t, arg, "{{", "%s: %s: what a shell reads holds no value: it gets them as arguments", name, e.Name)
					}
				}
			}
		}
	}
	require.Greater(t, tried, 100)
}
