package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestComponents(t *testing.T) {
	for name, c := range map[string]struct {
		arrows string
		want   [][]string
	}{
		"a chain":                 {"ab bc cd", [][]string{{"d"}, {"c"}, {"b"}, {"a"}}},
		"a circle":                {"ab bc ca cd", [][]string{{"d"}, {"a", "b", "c"}}},
		"two that meet":           {"ab ba bc cd dc", [][]string{{"c", "d"}, {"a", "b"}}},
		"circles with a node":     {"ab ba bc cb", [][]string{{"a", "b", "c"}}},
		"itself":                  {"aa ab", [][]string{{"b"}, {"a"}}},
		"an arrow to one that is": {"ab ac cb", [][]string{{"b"}, {"c"}, {"a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			next := map[string][]string{}
			for _, arrow := range strings.Fields(c.arrows) {
				next[arrow[:1]] = append(next[arrow[:1]], arrow[1:])
			}
			var nodes []string
			for n := 'a'; n <= 'd' && strings.ContainsRune(c.arrows, n); n++ {
				nodes = append(nodes, string(n))
			}
			require.Equal(t, c.want, components(nodes, next))
		})
	}
}

// knots runs the program on a module and returns the columns that it prints, with one
// space between them.
func knots(args ...string) (string, error) {
	var out strings.Builder
	err := run(args, &out)
	var lines strings.Builder
	for line := range strings.Lines(out.String()) {
		lines.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return lines.String(), err
}

func TestWhatKeepsFilesTogether(t *testing.T) {
	out, err := knots("-dir", "testdata/module", "-arrows")
	require.NoError(t, err)
	require.Equal(t, `package files lines knot files knot lines at most 12 files, 2500 lines
example/around 4 14 3 9 ok
a.go -> b.go: b
b.go -> c.go: c
c.go -> a.go: a
example/fields 3 11 3 11 ok
a.go -> b.go: total
b.go -> a.go: size
b.go -> c.go: newThing
c.go -> a.go: thing
example/methods 3 13 3 13 ok
a.go -> b.go: second
b.go -> c.go: all third
c.go -> a.go: thing
example/objects 2 8 2 8 ok
a.go -> b.go: b
b.go -> a.go: limit
example/promoted 4 16 3 13 ok
a.go -> b.go: middle
b.go -> d.go: size
d.go -> a.go: middle newOuter
d.go -> b.go: inner
1 of 6 packages have no knot
`, out, "package chain has none: its files of tests do not count")
}

func TestAKnotOverTheLimitFails(t *testing.T) {
	out, err := knots("-dir", "testdata/module", "-files", "2", "-v")
	require.ErrorIs(t, err, errTooLarge)
	require.Contains(t, out, "example/around 4 14 3 9 OVER\na.go 3\nb.go 3\nc.go 3\n")
	require.Contains(t, out, "example/objects 2 8 2 8 ok\n")

	out, err = knots("-dir", "testdata/module", "-lines", "9")
	require.ErrorIs(t, err, errTooLarge)
	require.Contains(t, out, "example/around 4 14 3 9 ok\n", "a limit is what is allowed")
	require.Contains(t, out, "example/promoted 4 16 3 13 OVER\n")
}

func TestWhatCannotBeRead(t *testing.T) {
	_, err := knots("-dir", "testdata/broken")
	require.ErrorContains(t, err, "undefined: missing")
	_, err = knots("-dir", "testdata/missing")
	require.Error(t, err)
	_, err = knots("-file", "3")
	require.Error(t, err)
}
