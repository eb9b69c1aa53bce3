package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hive/config"
)

// What was seen: hive read something else than the file says to a person, and did not
// say so. Each mistake is on line 3.
func TestReadAsWrittenOrRefused(t *testing.T) {
	const lead = "# a comment\n\n"
	for doc, want := range map[string]string{
		"start_parallel: 0123":                          `start_parallel: 0123: some readers take a number with a leading zero as octal, others as decimal; quote it, as in "0123"`,
		"hive_id: 0123":                                 `hive_id: 0123: some readers`,
		"hive_id: 0899":                                 `hive_id: 0899: some readers`, // no octal number, and so a float to the parser
		"listen: 010000":                                `listen: 010000: some readers`,
		"start_parallel: -012":                          `start_parallel: -012: some readers`,
		"start_parallel: !!int 012":                     `start_parallel: 012: some readers`,
		"start_parallel: 0o17":                          `start_parallel: 0o17: expected a number in decimal digits, as in 15; write that, or "0o17" in quotes for a text`,
		"start_parallel: 0x1F":                          `start_parallel: 0x1F: expected a number in decimal digits, as in 31`,
		"start_parallel: 0b11":                          `start_parallel: 0b11: expected a number in decimal digits, as in 3`,
		"start_parallel: 1_000":                         `start_parallel: 1_000: expected a number in decimal digits, as in 1000`,
		"start_parallel: +5":                            `start_parallel: +5: expected a number in decimal digits, as in 5`,
		"start_parallel: 1e3":                           `start_parallel: 1000: expected an integer`,
		"start_parallel: 1:30":                          `start_parallel: "1:30": expected an integer`,
		"start_parallel: .inf":                          `start_parallel: +Inf: expected an integer`,
		"workers_keep: 1:30":                            `workers_keep: "1:30": expected a duration with a unit`,
		"hive_id: 1.10":                                 `hive_id: expected a string; quote it`,
		"hive_id: .inf":                                 `hive_id: expected a string; quote it`,
		"hive_id: 2025-01-01":                           `hive_id: expected a string; quote it`,
		"hive_id: 12345678901234567890123":              `hive_id: 12345678901234567890123: expected a number in decimal digits; write that, or "12345678901234567890123" in quotes for a text`,
		"hive_id: True":                                 `hive_id: True: expected true or false in small letters, or "True" in quotes for a text`,
		"access: {tcp_root: yes}":                       `access.tcp_root: yes: expected true or false`,
		"access: {tcp_root: off}":                       `access.tcp_root: off: expected true or false`,
		"access: {tcp_root: n}":                         `access.tcp_root: n: expected true or false`,
		"data_dir: ~":                                   `data_dir: ~: is nothing to YAML, and no home directory`,
		"allowed_hosts: [a, ]\nlisten: [~]":             "", // the trailing comma is none
		"allowed_hosts: [a, null]":                      `allowed_hosts[1]: is empty; write "" if an empty text is meant, or remove it`,
		"hive_id: !env NAME":                            `hive_id: the tag !env means nothing here; remove it`,
		"hive_id: !!binary aGl2ZQ==":                    `hive_id: the tag !!binary means nothing here; remove it`,
		"start_parallel: !!int many":                    `start_parallel: many: expected a number in decimal digits; write that`,
		"start_parallel: !!float many":                  "cannot decode !!str `many` as a !!float",
		"%YAML 1.2":                                     `found incompatible YAML document; remove the line %YAML`,
		"hive_id: a\nhive_id: b":                        `hive.yaml:4: mapping key "hive_id" already defined at line 3`,
		"ports: {policy: a, policy: b}":                 `ports: mapping key "policy" already defined at line 3`,
		"hive_id: *nobody":                              `unknown anchor 'nobody' referenced`,
		"hive_id: \x01":                                 `control characters are not allowed`,
		"hive_id: \xff":                                 `invalid leading UTF-8 octet`,
		"workers: [{name: a, command: [x, \"m\xe8\"]}]": `invalid`,
		"hive_id: 'a":                                   `found unexpected end of stream`,
		"hive_id: a\n\tport: b":                         `found a tab character`,
		"hive_id: [a\nlisten: b":                        `did not find expected ',' or ']'`,

		"workers: [{name: a, command: [x, {{.Port}}]}]":        `workers[0] (a): command[1]: '{' begins a mapping in YAML: a template such as {{.Port}} needs quotes, as in "{{.Port}}"`,
		"workers: [{name: a, command: [x, --port={{.Port}}]}]": `did not find expected ',' or ']'; '{' begins a mapping in YAML: a template such as {{.Port}} needs quotes`,
		"workers: [{name: a, model: {{.Port}}, command: [x]}]": `workers[0] (a): model: '{' begins a mapping`,
		"workers: [{name: a, command: [x, ~]}]":                `workers[0] (a): command[1]: is empty`,
		"workers: [{name: a, command: [x], port: 08188}]":      `workers[0] (a): port: 08188: some readers`,
		"workers: [{name: a, command: [x], args: [0x1F]}]":     `workers[0] (a): args[0]: 0x1F: expected a number in decimal digits`,
		"workers: [{name: a, command: [x], autostart: yes}]":   `workers[0] (a): autostart: yes: expected true or false`,
		"workers: [{name: a, command: [x], params: {n: 012}}]": `workers[0] (a): params.n: 012: some readers`,

		"---\nhive_id: a\n---\nauth: none": `hive.yaml:5: a second document begins here, and hive reads one; remove the '---', or what follows it`,
		"hive_id: a\n---":                  `hive.yaml:4: a second document begins here`,
		"hive_id: a\n...\nhive_id: b":      `hive.yaml:5: did not find expected <document start>`,
	} {
		t.Run(doc, func(t *testing.T) {
			p := newPlace(t)
			p.write(t, "hive.yaml", lead+doc+"\n")
			_, err := p.load(t)
			if want == "" {
				want = "listen[0]: is empty"
				lines := strings.Count(doc, "\n")
				require.ErrorContains(t, err, "hive.yaml:"+string(rune('3'+lines))+": "+want)
				return
			}
			if !strings.HasPrefix(want, "hive.yaml:") {
				want = "hive.yaml:3: " + want
			}
			require.ErrorIs(t, err, config.ErrConfig)
			require.Regexp(t, "^"+regexp.QuoteMeta(want), err.Error())
		})
	}
}

// What a person cannot mean otherwise is read as YAML 1.2 reads it.
func TestPlainValues(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", `---
hive_id: no
data_dir: "~root"
start_parallel: 7
allowed_hosts: !!seq [on, "0123", y]
log_level: null
shutdown:
workers:
  - &a {name: a, command: [x, "{{.Port}}", 1:30, "0x1F"], params: {n: !!str 012}}
  - {<<: *a, name: b}
...
`)
	_, err := p.load(t)
	require.ErrorContains(t, err, `data_dir: "~root" begins with '~', which means a home directory only to a shell`)
	c, err := p.load(t, "--data-dir", p.dir)
	require.NoError(t, err)
	require.Equal(t, "no", c.HiveID)
	require.Equal(t, []string{"on", "0123", "y"}, c.AllowedHosts)
	require.Equal(t, 7, c.StartParallel)
	require.Empty(t, c.LogLevel)
	require.Equal(t, []string{"x", "{{.Port}}", "1:30", "0x1F"}, c.Workers[1].Command)
	require.Equal(t, "012", *c.Workers[1].Params["n"].Default)
	require.Empty(t, c.Warnings)
}

// What was seen: stop: {signal: SIGTERM} was refused.
func TestOneWordIsAListOfIt(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", "access: {admin: {users: root, groups: 0}}\nlisten: 127.0.0.1:7900\nworkers:\n"+
		"  - {name: a, preset: tei, args: --verbose, env: A=b, allow: {tokens: ci, users: 1000}, stop: {signal: SIGINT, command: /bin/end}, before_start: /bin/begin}\n")
	c, err := p.load(t)
	require.NoError(t, err)
	require.Equal(t, []uint32{0}, c.Access.Admin.UIDs)
	require.Equal(t, []uint32{0}, c.Access.Admin.GIDs)
	e := c.Workers[0]
	require.Equal(t, [][]string{{"--verbose"}, {"A=b"}, {"ci"}, {"1000"}, {"SIGINT"}, {"/bin/end"}, {"/bin/begin"}},
		[][]string{e.Args, e.Env, e.Allow.Tokens, e.Allow.Users, e.Stop.Signal, e.Stop.Command, e.BeforeStart})
	for _, key := range []string{"args: --ctx 1", "command: web --port 1", "env: ''", "env: {A: b}", "env: A=s3cret x"} {
		p.write(t, "hive.yaml", "workers:\n  - name: web\n    preset: tei\n    "+key+"\n")
		_, err = p.load(t)
		require.ErrorContains(t, err, `expected a list, as in ["a", "b"]`, key)
		require.NotContains(t, err.Error(), "s3cret")
	}
	p.write(t, "hive.yaml", entry("stop: {signals: SIGTERM}"))
	_, err = p.load(t)
	require.ErrorContains(t, err, `hive.yaml:4: workers[0] (web): stop: unknown key "signals"; did you mean "signal"?`)
}

// What was seen: ${PORT}, and a command that has no port at all, were taken without a word.
func TestPortThatNobodySays(t *testing.T) {
	const preset = "preset: llama-server\n    "
	for keys, want := range map[string]string{
		`command: [web, "--port=${PORT}"]`:                                 `command[1]: "--port=${PORT}": no shell runs this, so that $PORT stays as it is; write {{.Port}}, in quotes`,
		`command: [web, $PORT]`:                                            `command[1]: "$PORT": no shell`,
		preset + `args: [--port, $PORT]`:                                   `args[1]: "$PORT": no shell`,
		preset + `before_start: [x, "$PORT"]`:                              `before_start[1]: "$PORT": no shell`,
		preset + `stop: {command: [x, "a$PORT/b"]}`:                        `stop.command[1]: "a$PORT/b": no shell`,
		preset + `env: ["A=s3cret${PORT}"]`:                                `env[0]: no shell reads this`,
		preset + `env: ["PORT={{ .Port }}"]`:                               `env[0]: a value of env is no template; give it to the program in command or args`,
		preset + `env: ["CHAT={{ messages }}"]`:                            "",
		`command: [sh, -c, "PORT={{.Port}}; exec web $PORT"]`:              "",
		`command: [docker, run, a, /bin/sh, -c, 'web $PORT', "{{.Port}}"]`: "",
		`command: [web, "$PORTAL", "{{.Port}}"]`:                           "",
		`command: [web, "{{with .Ports}}{{index . 0}}{{end}}"]`:            "",
		`command: [web, '{{printf "%d" $.Port}}']`:                         "",
		"command: [web]\n    before_start: [configure, '{{.Port}}']":       "",
		"command: [web]\n    port: 8188":                                   "",
		preset:                                                             "",
		`command: [web]`:                                                   "warning",
		`command: [web, "{{.Host}}"]`:                                      "warning",
	} {
		t.Run(keys, func(t *testing.T) {
			p := newPlace(t)
			p.write(t, "hive.yaml", "workers:\n  - name: web\n    "+keys+"\n")
			c, err := p.load(t)
			switch want {
			case "":
				require.NoError(t, err)
				require.Empty(t, c.Warnings)
			case "warning":
				require.NoError(t, err)
				require.Len(t, c.Warnings, 1)
				require.ErrorContains(t, c.Warnings[0], "hive.yaml:3: workers[0] (web): command: never mentions the port that hive leases to the worker, and no variable has it; write {{.Port}}")
			default:
				require.Regexp(t, `^hive\.yaml:[34]: workers\[0\] \(web\): `+regexp.QuoteMeta(want), err.Error())
				require.NotContains(t, err.Error(), "s3cret")
			}
		})
	}
}

// Every mistake is told, each with the line where it is.
func TestAllMistakesAtOnce(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", `hiveid: a
workers_keep: 24
ports:
  range: 9-1
  policy: any
jobs: 7
start_parallel: 012
tls: {cert: a}
audit:
  interval: 1ms
allowed_hosts:
  - ok
  - "*"
workers:
  - name: a
    comand: [x]
    preset: nope
    port: 99999
    stop:
      grace: 5
      signal: SIGFOO
  - name: b
    command: [x, "{{.Prot}}"]
    ready: {path: up, status: 1}
    restart:
      policy: maybe
      max: 0
    allow: {users: [no-such-user-x]}
  - name: c
    preset: llama-server
    port: 7835
    allow: {groups: [no-such-group-x]}
`)
	t.Setenv("HIVE_LISTN", "x")
	t.Setenv("HIVE_SHUTDOWN", "maybe")
	p.write(t, typesDir+"/d.yaml", "name: d\nprest: x\nstop: {grace: 5}\n")
	p.write(t, typesDir+"/e.yaml", "name: e\npreset: tei\nlive:\n  interval: 1ms\n  failures: -1\n")
	_, err := p.load(t)
	all, ok := errors.AsType[config.Mistakes](err)
	require.True(t, ok)
	var got []string
	for _, e := range all {
		where, _, _ := strings.Cut(e.Error(), ": ")
		got = append(got, filepath.Base(where))
		require.NotContains(t, e.Error(), "\n")
	}
	require.Equal(t, []string{
		"HIVE_LISTN", "HIVE_SHUTDOWN", "hive.yaml:1", "hive.yaml:2", "hive.yaml:4", "hive.yaml:5", "hive.yaml:6", "hive.yaml:7", "hive.yaml:8", "hive.yaml:10", "hive.yaml:13",
		"hive.yaml:16", "hive.yaml:17", "hive.yaml:18", "hive.yaml:20", "hive.yaml:21",
		"hive.yaml:23", "hive.yaml:24", "hive.yaml:24", "hive.yaml:26", "hive.yaml:27", "hive.yaml:28", "hive.yaml:31", "hive.yaml:32",
		"d.yaml:2", "e.yaml:4", "e.yaml:5",
	}, got, "%v", all.Unwrap())
	require.Contains(t, err.Error(), "HIVE_LISTN: unknown variable")
	require.Contains(t, err.Error(), "(and 26 more: hive check lists them)")
}

// A file of another kind has a mistake in each line.
func TestManyMistakes(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", strings.Repeat("abc: 0123\n", 20000))
	_, err := p.load(t)
	all, ok := errors.AsType[config.Mistakes](err)
	require.True(t, ok)
	require.Len(t, all, 100)
}

// What was seen: a link to nothing was no file, and hive started with its defaults, without
// the auth that the file asks for.
func TestLinksToNothing(t *testing.T) {
	p := newPlace(t)
	target := filepath.Join(p.dir, "gone", "hive.yaml")
	want := " is a symbolic link to " + target + ", which does not exist; restore that, or remove the link"
	require.NoError(t, os.Symlink(target, "hive.yaml"))
	_, err := p.load(t)
	require.ErrorContains(t, err, "hive.yaml: hive.yaml"+want+"; give another file with --config")
	_, err = p.load(t, "--config", "hive.yaml")
	require.EqualError(t, err, "--config: hive.yaml"+want)
	_, err = p.loadAs(t, 1000, &config.Config{File: "hive.yaml"})
	require.EqualError(t, err, "hive.yaml: hive.yaml"+want)

	// A directory on the way.
	require.NoError(t, os.Remove("hive.yaml"))
	require.NoError(t, os.MkdirAll("home/.config", 0o700))
	require.NoError(t, os.Symlink(filepath.Join(p.dir, "gone"), "home/.config/hive"))
	_, err = p.load(t)
	require.ErrorContains(t, err, filepath.Join(p.dir, "home/.config/hive")+" is a symbolic link to "+filepath.Join(p.dir, "gone")+", which does not exist")
	p.write(t, "gone/other", "") // the link leads somewhere, and there is no file
	c, err := p.load(t)
	require.NoError(t, err)
	require.Empty(t, c.File)

	require.NoError(t, os.MkdirAll(filepath.Dir(typesDir), 0o700))
	require.NoError(t, os.Symlink(filepath.Join(p.dir, "nowhere"), typesDir))
	_, err = p.load(t)
	require.ErrorContains(t, err, typesDir+" is a symbolic link to "+filepath.Join(p.dir, "nowhere")+", which does not exist")
}

func TestPlacesThatAreNoFile(t *testing.T) {
	for name, make := range map[string]func(string) error{
		"is a fifo, not a regular file":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"is a directory, not a regular file": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		p := newPlace(t)
		require.NoError(t, make("hive.yaml"))
		_, err := p.load(t)
		require.ErrorContains(t, err, name)
		_, err = p.load(t, "--config", "hive.yaml")
		require.ErrorContains(t, err, "--config: ")
		require.ErrorContains(t, err, name)
	}
}

// What was seen: an editor that had truncated the file, and a reload just then, removed all
// worker types.
func TestReloadOfAnEmptiedFile(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", "workers: [{name: web, preset: tei}]\n")
	first, err := p.loadAs(t, 1000, nil)
	require.NoError(t, err)
	for _, doc := range []string{"", "# nothing\n", "---\n", "null\n"} {
		p.write(t, "hive.yaml", doc)
		_, err = p.loadAs(t, 1000, first)
		require.ErrorContains(t, err, "hive.yaml:1: is empty now, and what hive runs with came from it; write the settings and the worker types again, or to have none the line {}, or restart hive", "%q", doc)
		c, err := p.loadAs(t, 1000, nil)
		require.NoError(t, err, "a start")
		_, err = p.loadAs(t, 1000, c)
		require.NoError(t, err, "it was empty before")
	}
	for _, doc := range []string{"{}\n", "workers: []\n", "workers:\n"} {
		p.write(t, "hive.yaml", doc)
		c, err := p.loadAs(t, 1000, first)
		require.NoError(t, err, "%q", doc)
		require.Empty(t, c.Workers)
	}
}

func TestReloadWithoutTypesD(t *testing.T) {
	p := newPlace(t)
	p.write(t, typesDir+"/a.yaml", "name: a\npreset: tei\n")
	p.write(t, typesDir+"/b.yaml", "name: b\npreset: tei\n")
	first, err := p.loadAs(t, 1000, nil)
	require.NoError(t, err)
	require.NoError(t, os.Rename(typesDir, "away"))
	want := filepath.Join(p.dir, typesDir) + ": no longer exists, and a, b came from it; restore it, or make an empty directory there"
	_, err = p.loadAs(t, 1000, first)
	require.ErrorContains(t, err, want)
	_, err = first.WithTypes(first.DataDir)
	require.ErrorContains(t, err, want)
	c, err := p.loadAs(t, 1000, first, "--data-dir", filepath.Join(p.dir, "other"))
	require.NoError(t, err, "another data directory has no types yet")
	require.Empty(t, c.Workers)
	require.NoError(t, os.Mkdir(typesDir, 0o700))
	c, err = first.WithTypes(first.DataDir)
	require.NoError(t, err)
	require.Empty(t, c.Workers)
}

func TestMistakesOfTypesTogether(t *testing.T) {
	p := newPlace(t)
	p.write(t, "hive.yaml", "# x\nauth: users\nworkers: [{name: web, preset: tei, allow: {users: 0}}]\n")
	c, err := p.load(t)
	require.NoError(t, err)
	p.write(t, typesDir+"/a.yaml", "# x\nname: a\npreset: tei\nport: 7835\nallow: {users: no-such-user-x}\n")
	_, err = c.WithTypes(c.DataDir)
	require.ErrorContains(t, err, "a.yaml:4: port: 7835 is the port of hive's own API (listen) (and 1 more: hive check lists them)")
	p.write(t, typesDir+"/a.yaml", "name: a\ncommand: [x]\nallow: {users: 1}\n")
	next, err := c.WithTypes(c.DataDir)
	require.NoError(t, err)
	require.Len(t, next.Access.Types, 2)
	require.Len(t, c.Access.Types, 1, "the one before may be in use")
	require.Len(t, next.Warnings, 1)
	require.ErrorContains(t, next.Warnings[0], "a.yaml:2: command: never mentions the port")
	again, err := next.WithTypes(c.DataDir)
	require.NoError(t, err)
	require.Len(t, again.Warnings, 1)
	for _, doc := range []string{"name: a\npreset: tei\n---\nname: b\n", "name: a\npreset: tei\nport: 08188\n", "name: a\ncommand: [x, {{.Port}}]\n"} {
		p.write(t, typesDir+"/a.yaml", doc)
		_, err = c.WithTypes(c.DataDir)
		require.Regexp(t, `a\.yaml:[23]: `, err.Error())
	}
}
