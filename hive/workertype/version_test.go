package workertype_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/operation"
	"rbeehive/hive/workertype"
	testprogram "rbeehive/test/program"
)

// view is one type of a list.
func view(t *testing.T, list []workertype.View, name string) workertype.View {
	t.Helper()
	for _, v := range list {
		if v.Name == name {
			return v
		}
	}
	require.FailNow(t, "no such type", name)
	return workertype.View{}
}

// alive reports whether a process exists that has not ended.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state := raw[bytes.LastIndexByte(raw, ')')+2]
	return state != 'Z' && state != 'X'
}

func TestTypesAskNobodyUnlessToldTo(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "vllm")
	require.NoError(t, testprogram.Write(program, []byte("#!/bin/sh\necho ran >> "+dir+"/ran\necho 1.2.3\n"), 0o700))
	r := newRig(t, catalog.Entry{Name: "x", Preset: "vllm", Program: program}, catalog.Entry{Name: "web", Command: []string{program}})
	r.view("x", false)
	_, err := r.Info(t.Context(), operation.Spawn{Worker: "x", Model: "m"}, false)
	require.NoError(t, err)
	_, err = r.Info(t.Context(), operation.Spawn{Worker: "web"}, true)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, "ran"), "nothing was asked; and a program without a preset is never")

	ran := func() string {
		text, err := os.ReadFile(filepath.Join(dir, "ran"))
		require.NoError(t, err)
		return string(text)
	}
	ask := func() string {
		v, err := r.Info(t.Context(), operation.Spawn{Worker: "x", Model: "m"}, true)
		require.NoError(t, err)
		return v.Version
	}
	require.Equal(t, "1.2.3", ask())
	require.Equal(t, "1.2.3", ask())
	require.Equal(t, "ran\n", ran(), "the answer is remembered")
	require.NoError(t, testprogram.Write(program, []byte("#!/bin/sh\necho ran >> "+dir+"/ran\necho 1.2.4 of another\necho 1.2.4\n"), 0o700))
	require.Equal(t, "1.2.4", ask())
	require.Equal(t, "ran\nran\n", ran(), "not for another file")
}

// A program that loads CUDA for seconds, fails, or prints what is no version.
func TestProgramsThatDoNotTellTheirVersion(t *testing.T) {
	dir := t.TempDir()
	var entries []catalog.Entry
	for name, script := range map[string]string{
		"slow": "exec sleep 30", "fails": "echo 1.2.3; exit 1", "mute": "exit 0", "talks": "echo hello 1.2.3", "missing": "",
	} {
		program := filepath.Join(dir, name)
		if script != "" {
			require.NoError(t, testprogram.Write(program, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
		}
		entries = append(entries, catalog.Entry{Name: name, Preset: "vllm", Program: program})
	}
	long := filepath.Join(dir, "long")
	require.NoError(t, testprogram.Write(long, []byte("#!/bin/sh\nprintf 'version: \\033[2J%0200d\\n' 1\n"), 0o700))
	entries = append(entries, catalog.Entry{Name: "long", Preset: "llama-server", Program: long})
	r := newRig(t, entries...)
	begun := time.Now()
	types := r.List(t.Context(), true)
	require.Less(t, time.Since(begun), 10*time.Second)
	for _, name := range []string{"slow", "fails", "mute", "talks", "missing"} {
		require.Empty(t, view(t, types, name).Version, name)
	}
	require.Equal(t, filepath.Join(dir, "missing")+" does not exist", view(t, types, "missing").Missing)
	require.Len(t, view(t, types, "long").Version, 80, "one short line")
	require.NotContains(t, view(t, types, "long").Version, "\x1b")
}

// A program that is asked for its version is ended with all that it has started,
// however it has got away.
func TestWhatIsAskedForItsVersionLeavesNothing(t *testing.T) {
	dir := publicDir(t)
	const left = "setsid sleep 60 & echo $! >$0.pid; "
	leaves := script(t, filepath.Join(dir, "leaves"), left+"echo 1.2.3")
	hangs := script(t, filepath.Join(dir, "hangs"), "trap '' TERM; "+left+"while :; do sleep 1; done")
	entries := []catalog.Entry{{Name: "leaves", Preset: "vllm", Program: leaves}, {Name: "hangs", Preset: "vllm", Program: hangs}}
	if os.Geteuid() == 0 {
		entries[1].User = outsider
	}
	r := newRig(t, entries...)
	// On a busy machine two seconds can be too short; then it is asked again.
	var types []workertype.View
	require.Eventually(t, func() bool {
		types = r.List(t.Context(), true)
		return view(t, types, "leaves").Version == "1.2.3"
	}, 20*time.Second, time.Millisecond)
	require.Empty(t, view(t, types, "hangs").Version)
	for _, program := range []string{leaves, hangs} {
		text, err := os.ReadFile(program + ".pid")
		require.NoError(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		require.NoError(t, err)
		require.False(t, alive(pid), program)
	}
}

// A package of Python is not in the interpreter's file: only a failure of the question
// proves that it is not installed, and that it was too slow proves nothing.
func TestAnInterpreterWithoutThePackage(t *testing.T) {
	dir := t.TempDir()
	answers := filepath.Join(dir, "answers")
	python := script(t, filepath.Join(dir, "python"), ". "+answers)
	r := newRig(t, catalog.Entry{Name: "x", Preset: "sglang", Program: python})
	t.Setenv("PATH", dir) // the built-in types are asked too
	require.Equal(t, python, r.view("x", false).Program, "nobody has asked it yet")
	// sglang was said to be installed because python is.
	require.NoError(t, os.WriteFile(answers, []byte("exit 1\n"), 0o600))
	r.LearnPackages(t.Context())
	for _, v := range []workertype.View{r.view("x", false), r.view("sglang", false)} {
		require.Equal(t, []string{"", python + " has no sglang installed"}, []string{v.Program, v.Missing}, v.Name)
	}
	info, err := r.Info(t.Context(), operation.Spawn{Worker: "x", Model: "m"}, false)
	require.NoError(t, err)
	require.Equal(t, python+" has no sglang installed", info.Missing)
	for _, c := range []struct{ lines, version, missing string }{
		{"echo no module; exit 1", "", python + " has no sglang installed"},
		{"exec /bin/sleep 30", "", ""},
		{"echo 0.5.4", "0.5.4", ""},
	} {
		require.NoError(t, os.WriteFile(answers, []byte(c.lines+"\n"), 0o600))
		v := r.view("x", true)
		require.Equal(t, []string{c.version, c.missing}, []string{v.Version, v.Missing}, c.lines)
		require.Equal(t, c.missing != "", v.Program == "", c.lines)
	}
	require.NoError(t, os.WriteFile(answers, []byte("exit 1\n"), 0o600))
	require.Equal(t, "0.5.4", r.view("x", true).Version, "an answer is remembered for a while")
	require.Equal(t, python, r.view("x", false).Program, "without a question it is there")
}

// It is asked as it would run a worker, but for the GPU, which may be in use, and the
// env_file.
func TestHowAProgramIsAsked(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "env")
	require.NoError(t, os.WriteFile(file, []byte("FROM_FILE=s3cret\n"), 0o600))
	program := script(t, filepath.Join(dir, "vllm"), `echo "$* in $(pwd) gpu ${CUDA_VISIBLE_DEVICES-unset} $COLOUR file ${FROM_FILE-unset} mark ${RBEEHIVE_HOOK%.*} lease ${RBEEHIVE_LEASE-none}" >`+dir+`/asked; echo 1.2.3`)
	r := newRig(t, catalog.Entry{Name: "x", Preset: "vllm", Program: program, Device: "0", Dir: dir, Env: []string{"COLOUR=blue"}, EnvFile: file})
	require.Eventually(t, func() bool { return r.view("x", true).Version == "1.2.3" }, 20*time.Second, time.Millisecond)
	text, err := os.ReadFile(filepath.Join(dir, "asked"))
	require.NoError(t, err)
	require.Equal(t, "--version in "+dir+" gpu  blue file unset mark state/version lease none\n", string(text))
}

// What hive runs itself has its version.
func TestTheVersionOfHiveIsNotAsked(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	r := newRig(t)
	for _, name := range []string{"cpu", "reference"} {
		require.Equal(t, "v1.2.3", r.view(name, true).Version)
		require.Empty(t, r.view(name, false).Version)
	}
}

// Whoever goes away is not waited for.
func TestAQuestionThatIsGivenUp(t *testing.T) {
	program := script(t, filepath.Join(t.TempDir(), "vllm"), "echo 1.2.3")
	r := newRig(t, catalog.Entry{Name: "x", Preset: "vllm", Program: program})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v := view(t, r.List(ctx, true), "x")
	require.Empty(t, v.Version)
	require.Equal(t, "context canceled", v.Missing, "nor is its program looked for")
}
