//go:build linux

package attack_test

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
)

// interpreter stands in for Python: a shell runs a file that is named to it as well,
// and repeats of it what it does not understand.
const interpreter = `exec /bin/sh "$@"`

// scripted are entries that say which script an engine runs.
const scripted = `workers:
  - {name: comfy, preset: comfyui, params: {main: MAIN}}
  - {name: tabby, preset: tabbyapi, params: {main: MAIN}}
`

// Presets without an entry and those whose entry names the file; tried by a stranger,
// and by a user who may start workers, which does not make that user root.
func TestAFileThatTheCallerNames(t *testing.T) {
	s := newSite(t, "")
	own := s.script("main.py", `id -u > `+s.dir+`/own; sleep 60`)
	s.write("hive.yaml", strings.ReplaceAll(scripted, "MAIN", own))
	s.script("python", interpreter)
	home := s.homeOf(s.stranger(), "theirs")
	evil, marker := home+"/evil.py", home+"/marker"
	s.stranger().sh(`echo "id -u >$1/marker; sleep 60" >$1/evil.py; mkdir $1/custom_nodes`, home)
	secret := s.secret("secret", "hunter2-of-root\n")
	s.start()

	job := s.spawn(map[string]any{"worker": "comfy", "wait": "started"})
	require.Equal(t, "succeeded", job.State, "%+v", job.Error)
	s.await("the entry's own file is run", func() bool { return ownerOf(s.dir+"/own") == 0 })

	for _, typ := range []string{"comfyui", "comfy", "tabbyapi", "tabby"} {
		for caller, uid := range map[string]int{"a stranger": stranger, "a user who may start workers": 0} {
			try := func(t *testing.T, wait, param, value string) reply {
				fields := map[string]any{"worker": typ, "wait": wait, "params": map[string]string{param: value}}
				if strings.HasPrefix(typ, "tabby") {
					fields["model"] = "x"
				}
				return person{s.in(t), uid}.job("worker_spawn", fields)
			}
			t.Run("a file of theirs run with hive's rights by "+typ+" for "+caller, func(t *testing.T) {
				r := try(t, "started", "main", evil)
				ran := strings.Contains(r.Body, `"succeeded"`) && s.within(timeout, func() bool { return ownerOf(marker) >= 0 })
				require.False(t, ran, "%s", r)
				_ = os.Remove(marker)
			})
			t.Run("a line of root's file in the error of "+typ+" for "+caller, func(t *testing.T) {
				require.NotContains(t, try(t, "ready", "main", secret).Body, "hunter2")
			})
			if typ != "comfy" {
				continue
			}
			t.Run("code of theirs in the custom_nodes of "+typ+" for "+caller, func(t *testing.T) {
				r := try(t, "started", "base_directory", home)
				require.Empty(t, running("--base-directory "+home), "%s", r)
			})
		}
	}
}

// running are the command lines of processes that have a text in them.
func running(text string) (lines []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if line := strings.ReplaceAll(string(raw), "\x00", " "); err == nil && strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// What a caller passes stays the value of a flag: in no command of any preset does it
// become a flag, or the path of something else than a model, whoever the caller is.
func TestAFlagThatTheCallerNames(t *testing.T) {
	s := newSite(t, "")
	s.script("python", interpreter)
	s.write("hive.yaml", strings.ReplaceAll(scripted, "MAIN", s.script("main.py", "sleep 60")))
	s.start()
	var list wire.Types
	s.ok(get("/v1/types"), &list)
	require.Greater(t, len(list.Types), 5)
	for _, typ := range list.Types {
		var detail wire.TypeDetail
		s.ok(get("/v1/types/"+typ.Name), &detail)
		t.Run("a flag of "+typ.Name+" by the model", func(t *testing.T) {
			s := s.in(t)
			known := []string{}
			for _, model := range []string{"x.gguf", "user/repo", "user/repo:Q4_K_M", "user/repo:x.gguf", "/m/dir/name"} {
				known = append(known, flagsIn(s.argv(typ.Name, "model", model), model)...)
			}
			for _, model := range []string{
				"x/--trust-remote", "/m/--trust-remote-code", "u/r:-x.gguf", "u/--r:q.gguf", "u/r:--no-webui.gguf", "-u/r",
				"--help", "x/-", "x//--flag/", "./--flag", "u/r: -x.gguf",
			} {
				assert.Subset(t, known, flagsIn(s.argv(typ.Name, "model", model), model), model)
			}
		})
		for param := range detail.Params {
			t.Run("a flag or a path of "+typ.Name+" by its parameter "+param, func(t *testing.T) {
				s := s.in(t)
				for _, text := range []string{"--flag", "-", "x\n--flag", "/etc/passwd", "../x", "~/x"} {
					assert.NotContains(t, s.argv(typ.Name, "param."+param, text), text)
				}
			})
		}
	}
}

// argv is the command of a type for a value; nil: there is none.
func (s *site) argv(typ, key, value string) []string {
	s.Helper()
	query := url.Values{"model": {"x.gguf"}}
	query.Set(key, value)
	r := get("/v1/types/" + typ + "?" + query.Encode()).within(timeout).send()
	var detail wire.TypeDetail
	if r.Status != 200 {
		return nil
	}
	require.NoError(s, json.Unmarshal([]byte(r.Body), &detail), "%s", r)
	return detail.Command
}

// flagsIn are the arguments that a program takes for flags. One that gives a value
// together with its flag is a flag without it.
func flagsIn(argv []string, value string) []string {
	var flags []string
	for _, arg := range argv {
		if strings.HasPrefix(arg, "-") {
			flags = append(flags, strings.TrimSuffix(arg, "="+value))
		}
	}
	slices.Sort(flags)
	return flags
}

// Asking for a version runs the program: as the entry's user, whoever asks, and not at
// all for callers without the right.
func TestAProgramOfTheEntrysUser(t *testing.T) {
	s := newSite(t, "")
	home := s.homeOf(s.stranger(), "theirs")
	marker := home + "/marker"
	s.stranger().sh(`printf '#!/bin/sh\nid -u >%s/marker\necho "version: 1"\n' $1 >$1/llama-server; chmod 755 $1/llama-server`, home)
	s.write("hive.yaml", `workers: [{name: theirs, preset: llama-server, program: `+home+`/llama-server, user: "54321:54321"}]`)
	s.start()
	for what, a := range map[string]ask{
		"the list of types": get("/v1/types?version=1"), "one type": get("/v1/types/theirs?version=1"),
		"rbee's list": operate("worker_list_installed", nil), "one of rbee's list": operate("worker_installed_get", map[string]any{"worker_id": "theirs"}),
	} {
		t.Run("their program run as root by a request for "+what, func(t *testing.T) {
			s := s.in(t)
			s.stranger().sh(`rm -f $1/marker; touch -d @$2 $1/llama-server`, home, itoa(int(time.Now().UnixNano()%1e9))) // not what it was
			r := s.root().do(a)
			require.NotEqual(t, 0, ownerOf(marker), "%s", r)
		})
		t.Run("a program run for a stranger by a request for "+what, func(t *testing.T) {
			s := s.in(t)
			s.stranger().sh(`rm -f $1/marker; touch -d @$2 $1/llama-server`, home, itoa(int(time.Now().UnixNano()%1e9)))
			r := s.stranger().do(a)
			require.Equal(t, -1, ownerOf(marker), "%s", r)
		})
	}
}

// Commands and files of an entry with a user are used as that user, who can replace
// them.
func TestWhatAnEntrysUserCanReplace(t *testing.T) {
	s := newSite(t, "")
	home := s.homeOf(s.stranger(), "theirs")
	secret := s.secret("secret", "HUNTER=2\n")
	s.stranger().sh(`echo THEIRS=1 >$1/env; printf '#!/bin/sh\nid -u >%s/$1\n' $1 >$1/tool; chmod 755 $1/tool`, home)
	s.write("hive.yaml", `workers:
  - {name: env, command: [`+binary("server")+`, -port, "{{.Port}}"], user: "54321:54321", env_file: `+home+`/env}
  - {name: plain, command: [`+binary("server")+`, -port, "{{.Port}}"], user: "54321:54321", env_file: `+s.write("env", "PLAIN=1\n")+`}
  - {name: tools, command: [`+binary("server")+`, -port, "{{.Port}}"], user: "54321:54321", before_start: [`+home+`/tool, before], stop: {command: [`+home+`/tool, stop], grace: 200ms}}
`)
	s.start()
	environ := func(s *site, name string) string {
		w := s.worker(name)
		if w == nil || w.State != "ready" {
			return ""
		}
		return get("/environ").at("127.0.0.1:" + itoa(int(w.Port))).send().Body
	}
	s.up("plain", "plain")
	require.Contains(t, environ(s, "plain"), "PLAIN=1")
	t.Run("root's secrets by a link in the place of the env_file of a worker of theirs", func(t *testing.T) {
		s := s.in(t)
		s.stranger().sh(`ln -sf $2 $1/env`, home, secret)
		s.spawn(map[string]any{"worker": "env", "name": "env"})
		require.NotContains(t, environ(s, "env"), "HUNTER")
	})
	t.Run("commands before the start and for the stop run as root", func(t *testing.T) {
		s := s.in(t)
		s.up("tools", "tools")
		s.ok(operate("worker_stop", map[string]any{"worker_id": "tools"}), nil)
		require.Equal(t, []int{stranger, stranger}, []int{ownerOf(home + "/before"), ownerOf(home + "/stop")})
	})
}
