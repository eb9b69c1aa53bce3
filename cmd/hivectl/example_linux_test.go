package main_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command"
)

// exampleLimit is how long all examples together may take.
const exampleLimit = 4 * time.Minute

// exampleSetup is what the examples of a command find beside the fixture.
var exampleSetup = map[string]string{
	"hivectl workers rm":  "exec hivectl up -q cpu --name old\nexec hivectl stop old\n",
	"hivectl jobs cancel": "exec hivectl jobs submit -q '{\"operation\":\"worker_spawn\",\"worker\":\"slow\"}'\nawait job- hivectl jobs list --state running -q\n",
	"hivectl db": "hive stop\nexec cp -a data stopped\nexec mkdir backups\nenv HIVE_DATA_DIR=$WORK/stopped\n" +
		"exec hivectl db backup backups/hive-20260102T030405.000Z.db --data-dir stopped\nhive start\nenv HIVE_ADDR=unix:$WORK/s\n",
	"hivectl db salvage":    "hive stop\nexec cp qwen.gguf stopped/hive.db\n",                                                  // there is something to salvage
	"hivectl":               "exec hivectl stop demo\n",                                                                        // the example is to start it
	"hivectl models import": "env HIVE_DATA_DIR=$WORK/data\n" + `exec sh -c 'printf "GGUF\003\000\000\000" >qwen.gguf'` + "\n", // not where a hive of this machine has its own
	"hivectl models get":    "exec hivectl models pull -q Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0.gguf\n",
}

// goesOn is a line that ends when somebody ends it.
type goesOn struct {
	code      int    // its exit code then
	shows     string // what it prints when it is time to end it; empty: anything
	meanwhile string // what is done until then
}

var exampleGoesOn = map[string]goesOn{
	"hivectl ps --watch":                                 {},
	"hivectl workers list --watch -o json":               {},
	"hivectl leases list --watch":                        {},
	"hivectl jobs list --operation worker_spawn --watch": {},
	"hivectl logs -f $(hivectl ps -q)":                   {},
	"hivectl events --after latest":                      {meanwhile: "hivectl restart -q demo"},
	"hivectl events --type port,audit -o json":           {},
	"hivectl run -- python3 -m http.server {port}":       {code: 143, shows: "Serving"},
}

// exampleAsks are lines that ask at the terminal, and do nothing and exit with 1
// where there is none.
var exampleAsks = map[string]bool{"hivectl db salvage": true}

// exampleFinds are commands that exit with 1 if they find something, which is up to
// the machine that the test runs on.
var exampleFinds = map[string]bool{"hivectl status": true, "hivectl doctor": true, "hivectl audit": true}

// exampleFixture is the hive of every example: an entry that is started with it, one
// with a model, one that takes long to load; a worker called demo on the first port
// (8080 in the examples, and 8188 is another free one). /var/lib/hive in the examples is
// the state of a hive that does not run, /srv/backups has a backup of it.
const exampleFixture = `freerange 10
env HOME=$WORK PYTHONUNBUFFERED=1
hive start
exec hivectl up -q cpu --name demo
%s
-- qwen.gguf --
weights
-- hive.yaml --
listen: ["127.0.0.1:$API", "unix:$WORK/s"]
data_dir: $WORK/data
ports: {range: $RANGE}
models: {endpoint: "$HUB"}
workers:
  - name: web
    command: [hive, worker, --port, "{{.Port}}"]
    ready: {path: /health}
    port: $P9
    autostart: true
  - name: llama
    command: [hive, worker, --port, "{{.Port}}", --model, "{{.Model}}", --load-time, "{{.Params.ctx}}us"]
    params: {ctx: "4096"}
    ready: {path: /health}
  - name: slow
    command: [hive, worker, --port, "{{.Port}}", --load-time, 5m]
    ready: {path: /health}
`

// TestExamples runs the example in the help of every command, line by line as a
// person would type it, with a real daemon. What is printed is for people; that each
// line ends as it should is what is checked. The commands of a group share a daemon.
func TestExamples(t *testing.T) {
	dir := t.TempDir()
	scripts := 0
	root := command.Tree()
	for _, cmd := range append(root.Commands(), root) {
		run, files := addExample(t, cmd)
		subs := cmd.Commands()
		if cmd == root {
			subs = nil
		}
		for _, sub := range subs {
			require.Empty(t, sub.Commands(), "%s has commands of its own, whose examples would not be run", sub.CommandPath())
			more, file := addExample(t, sub)
			run, files, scripts = run+more, files+file, scripts+1
		}
		scripts++
		text := fmt.Sprintf(exampleFixture, run) + files
		require.NoError(t, os.WriteFile(filepath.Join(dir, cmd.Name()+".txtar"), []byte(text), 0o600))
	}
	require.Greater(t, scripts, 40, "the tree has commands")
	testscript.Run(t, testscript.Params{
		Dir: dir, RequireExplicitExec: true, Deadline: time.Now().Add(exampleLimit), Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"freerange": freeRange, "hive": hiveCmd, "await": awaitCmd},
	})
}

// addExample returns what runs the example of a command, and the files that needs: a
// script that notes the exit code of each line, and the codes it is to note.
func addExample(t *testing.T, cmd *cobra.Command) (run, files string) {
	t.Helper()
	path := cmd.CommandPath()
	name := strings.ReplaceAll(path, " ", "-")
	script, want := exampleScript(t, cmd)
	run = exampleSetup[path] +
		"exec sed -i s/\\b8080\\b/$P0/g;s/\\b8188\\b/$P5/g;s,/var/lib/hive,$WORK/stopped,g;s,/srv/backups,$WORK/backups,g " + name + ".sh\n" +
		"exec timeout 60 bash " + name + ".sh\ncmp codes " + name + ".codes\nrm codes\n"
	return run, "-- " + name + ".codes --\n" + want + "-- " + name + ".sh --\nset -u\n" + script
}

// exampleScript makes a script of an example, and the exit codes it is to note.
func exampleScript(t *testing.T, cmd *cobra.Command) (script, want string) {
	t.Helper()
	require.NotEmpty(t, cmd.Example, "%s has no example", cmd.CommandPath())
	for line := range strings.SplitSeq(cmd.Example, "\n") {
		line, indented := strings.CutPrefix(line, "  ")
		require.True(t, indented && line != "" && line == strings.TrimSpace(line), "%s: example %q: want two spaces, and a command", cmd.CommandPath(), line)
		end, endless := exampleGoesOn[line]
		switch {
		case endless:
			script += "rm -f out\n" + line + " >out 2>&1 &\npid=$!\nuntil grep -qs '" + cmp.Or(end.shows, ".") + "' out; do sleep 0.02; " + end.meanwhile + "\ndone\nkill -TERM $pid; wait $pid\n"
		case exampleFinds[cmd.CommandPath()]:
			script += line + "\ncode=$?; (exit $(( code == 1 ? 0 : code )))\n"
		case exampleAsks[line]:
			script += line + "\n"
			end.code = 1
		default:
			script += line + "\n"
		}
		script += "echo $? >>codes\n"
		want += fmt.Sprintln(end.code)
	}
	return script, want
}
