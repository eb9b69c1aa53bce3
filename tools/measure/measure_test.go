package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/tools/internal/source"
)

// measure runs the program and returns its lines, with one space between the columns.
func measure(t *testing.T, args ...string) string {
	t.Helper()
	var out, lines strings.Builder
	require.NoError(t, run(args, &out))
	for line := range strings.Lines(out.String()) {
		lines.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return lines.String()
}

func TestMeasures(t *testing.T) {
	require.Equal(t, `measure now target
fields of hive.Hive 4 at most 20 ok
methods of hive.Hive 4 in 3 files
lines of a function, 95th percentile 6 at most 54 ok
lines of the longest function 6 at most 70 ok
lines of the longest file 27 at most 450 ok
places that write a worker's state outside rbeehive/hive/lifecycle.Transition 0 at most 0 ok
mentions of the setting jobs_keep 5 in 2 files
comments, % of the lines that are not blank 18.2
comments in bodies, of 100 lines 20.0 at least 4 ok
code of tests : code 0.26 1 to 1.5 no
packages without an Example, of alloc hive/proc httpapi/client store 3 at most 0 no
Example functions 2

where jobs_keep is mentioned
hive/hive.go:10
hive/more.go:4
hive/more.go:10
hive/more.go:11
hive/more.go:12

by package
package code comments % in bodies % tests : code examples
hive 25 19.4 20.0 0.12 0
store 2 0.0 0.0 2.00 2
`, measure(t, "-dir", "testdata/module", "jobs_keep"))
}

// TestTargetsCanBeMissed measures a module that is over each limit by one.
func TestTargetsCanBeMissed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("go.mod", "module example\n\ngo 1.26\n")
	write("store/store.go", "package store\n\ntype Worker struct{ State string }\n\nvar W = Worker{State: \"x\"}\n")
	write("hive/hive.go", "package hive\n\ntype Hive struct {\n"+strings.Repeat("\t_ int\n", hiveFields+1)+"}\n\n"+
		"func long() {\n"+strings.Repeat("\t_ = 1\n", functionLongest-1)+"}\n")
	write("hive/long_test.go", "package hive\n"+strings.Repeat("\n", fileLongest-1)+"var last int\n")
	out := measure(t, "-dir", dir)
	for _, missed := range []string{
		"fields of hive.Hive 21 at most 20 no\n",
		"95th percentile 71 at most 54 no\n",
		"longest function 71 at most 70 no\n", "functions of more than 70 lines\n71 hive/hive.go:27 long\n",
		"longest file 451 at most 450 no\n", "files of more than 450 lines\n451 hive/long_test.go\n",
		"outside rbeehive/hive/lifecycle.Transition 1 at most 0 no\n", "who writes a worker's state\nstore/store.go:5\n",
		"comments in bodies, of 100 lines 0.0 at least 4 no\n",
	} {
		require.Contains(t, out, missed)
	}
}

func TestStateWrites(t *testing.T) {
	pkgs, err := source.Load("testdata/states")
	require.NoError(t, err)
	for writer, written := range map[string][]string{
		"example/hive.transition":         {"written", "by the method"},
		"(*example/hive.Hive).transition": {"written", "by the function"},
	} {
		writes, err := stateWrites(pkgs, writer)
		require.NoError(t, err)
		require.ElementsMatch(t, linesWith(t, written...), writes, writer)
	}
}

// linesWith returns the lines of the module states that end with one of the comments.
func linesWith(t *testing.T, comments ...string) []string {
	t.Helper()
	var lines []string
	for _, name := range []string{"hive/hive.go", "store/store.go"} {
		text, err := os.ReadFile(filepath.Join("testdata/states", name))
		require.NoError(t, err)
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			for _, c := range comments {
				if strings.HasSuffix(line, "// "+c+"\n") {
					lines = append(lines, fmt.Sprintf("%s:%d", name, n))
				}
			}
		}
	}
	require.Greater(t, len(lines), len(comments))
	return lines
}

func TestWhatCannotBeMeasured(t *testing.T) {
	var out strings.Builder
	require.ErrorContains(t, run([]string{"-dir", "testdata/empty"}, &out), "package store has no Worker")
	require.Error(t, run([]string{"-dir", "testdata/missing"}, &out))
	require.ErrorContains(t, run([]string{"-dir", t.TempDir()}, &out), "no Go files")
	require.Empty(t, out.String())
}
