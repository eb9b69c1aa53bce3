package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckOfAValidFile(t *testing.T) {
	s := newSite(t, "workers: [{name: web, preset: tei}]\n")
	file := filepath.Join(s.dir, "hive.yaml")
	code, stdout, stderr := s.command(t, "check")
	require.Zero(t, code, stderr)
	require.Equal(t, file+" is valid\n", stdout)
	require.Empty(t, stderr)
	require.NoDirExists(t, filepath.Join(s.dir, "state"), "it makes nothing")

	other := filepath.Join(s.dir, "other.yaml")
	require.NoError(t, os.WriteFile(other, []byte("workers:\n  - {name: web, command: [x]}\n"), 0o600))
	code, stdout, stderr = s.command(t, "check", other)
	require.Zero(t, code, stderr)
	require.Equal(t, other+" is valid\n", stdout)
	require.Equal(t, "warning: "+other+":2: workers[0] (web): command: never mentions the port that hive leases to the worker, and no variable has it; "+
		"write {{.Port}} where the program takes its port, or give the entry a port of its own (port)\n", stderr)

	require.NoError(t, os.WriteFile(other, nil, 0o600))
	code, _, stderr = s.command(t, "check", "--config", other)
	require.Zero(t, code)
	require.Equal(t, "warning: "+other+":1: has nothing but comments; a running hive that has read more from it refuses to reload it\n", stderr)
}

func TestCheckPrintsEveryMistake(t *testing.T) {
	s := newSite(t, "hiveid: a\nshutdown: never\nworkers:\n  - name: web\n    command: [x, '{{.Prot}}']\n    port: 0123\n")
	types := filepath.Join(s.dir, "state", "types.d")
	require.NoError(t, os.MkdirAll(types, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(types, "a.yaml"), []byte("name: a\nprest: tei\n"), 0o600))
	code, stdout, stderr := s.command(t, "check")
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	require.Len(t, lines, 5, stderr)
	file := filepath.Join(s.dir, "hive.yaml")
	for i, want := range []string{
		file + `:1: unknown key "hiveid"; did you mean "hive_id"?`, file + `:2: shutdown: "never": expected keep or stop`,
		file + ":5: workers[0] (web): command[1]: ", file + ":6: workers[0] (web): port: 0123: ", filepath.Join(types, "a.yaml") + ":2: unknown key",
	} {
		require.True(t, strings.HasPrefix(lines[i], want), "%s\n%s", lines[i], want)
	}
	missing := filepath.Join(s.dir, "missing.yaml")
	code, _, stderr = s.command(t, "check", missing)
	require.Equal(t, 1, code)
	require.Equal(t, "open "+missing+": no such file or directory\n", stderr)
}

func TestUsageOfCheck(t *testing.T) {
	s := newSite(t, "")
	for _, args := range [][]string{{"check", "a", "b"}, {"check", "--config", "a", "b"}, {"check", "--nope"}} {
		code, stdout, stderr := s.command(t, args...)
		require.Equal(t, 2, code, args)
		require.Empty(t, stdout)
		require.Contains(t, stderr, "hive --help lists the flags\n")
	}
	code, stdout, _ := s.command(t, "check", "--help")
	require.Zero(t, code)
	require.Contains(t, stdout, "hive check ./hive.yaml")
}

// hive reloads by the same check, and goes on with what it had.
func TestReloadChecks(t *testing.T) {
	s := newSite(t, "workers: [{name: web, command: [x]}]\n")
	p := s.start(t)
	p.logs("never mentions the port")
	for doc, want := range map[string]string{
		"":                     "hive.yaml:1: is empty now",
		"workers: []\n---\n{}": "hive.yaml:2: a second document begins here",
	} {
		s.write(t, doc)
		code, body := p.post("/v1/reload")
		require.Equal(t, 409, code)
		require.Contains(t, body, want)
		_, types, err := get(p.url + "/v1/types")
		require.NoError(t, err)
		require.Contains(t, types, `"name":"web"`)
	}
	p.signal(syscall.SIGTERM)
	code, _ := p.end()
	require.Zero(t, code)
}
