package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// graph says which files of a package use which others, and what of them.
type graph struct {
	name   string
	files  []string // by their base names, sorted
	lines  map[string]int
	arrows map[string]map[string]map[string]bool // from, to, the names used
}

func newGraph(pkg *packages.Package) (*graph, error) {
	g := &graph{name: pkg.PkgPath, lines: map[string]int{}, arrows: map[string]map[string]map[string]bool{}}
	for _, path := range pkg.GoFiles {
		text, err := os.ReadFile(path) //nolint:gosec // a file that the go command named
		if err != nil {
			return nil, err
		}
		name := filepath.Base(path)
		g.files = append(g.files, name)
		g.lines[name] = bytes.Count(text, []byte("\n"))
		g.arrows[name] = map[string]map[string]bool{}
	}
	slices.Sort(g.files)
	use := func(at token.Pos, obj types.Object) {
		if obj.Pkg() == pkg.Types {
			g.use(fileOf(pkg.Fset, at), fileOf(pkg.Fset, obj.Pos()), obj.Name())
		}
	}
	for ident, obj := range pkg.TypesInfo.Uses {
		use(ident.Pos(), obj)
	}
	// x.F is also a use of each embedded field on the way to F.
	for expr, selection := range pkg.TypesInfo.Selections {
		for _, field := range embedded(selection) {
			use(expr.Sel.Pos(), field)
		}
	}
	return g, nil
}

func fileOf(fset *token.FileSet, pos token.Pos) string {
	return filepath.Base(fset.Position(pos).Filename)
}

// embedded returns the fields that a selection passes without naming them.
func embedded(selection *types.Selection) []*types.Var {
	var passed []*types.Var
	t := selection.Recv()
	for _, i := range selection.Index()[:len(selection.Index())-1] {
		if pointer, ok := t.Underlying().(*types.Pointer); ok {
			t = pointer.Elem()
		}
		field := t.Underlying().(*types.Struct).Field(i)
		passed = append(passed, field)
		t = field.Type()
	}
	return passed
}

func (g *graph) use(from, to, name string) {
	if from == to {
		return
	}
	if g.arrows[from][to] == nil {
		g.arrows[from][to] = map[string]bool{}
	}
	g.arrows[from][to][name] = true
}

// length is how many lines the files have together.
func (g *graph) length(files []string) int {
	n := 0
	for _, f := range files {
		n += g.lines[f]
	}
	return n
}

// knots returns the components of more than one file, those with the most lines first.
func (g *graph) knots() [][]string {
	next := make(map[string][]string, len(g.files))
	for _, f := range g.files {
		next[f] = slices.Sorted(maps.Keys(g.arrows[f]))
	}
	knots := slices.DeleteFunc(components(g.files, next), func(c []string) bool { return len(c) < 2 })
	slices.SortStableFunc(knots, func(a, b []string) int { return cmp.Compare(g.length(b), g.length(a)) })
	return knots
}

// detail prints what the options ask for about a knot.
func (g *graph) detail(w io.Writer, knot []string, o options) {
	for _, f := range knot {
		switch {
		case o.arrows:
			for _, to := range slices.Sorted(maps.Keys(g.arrows[f])) {
				if slices.Contains(knot, to) {
					fmt.Fprintf(w, "    %s -> %s: %s\n", f, to, strings.Join(slices.Sorted(maps.Keys(g.arrows[f][to])), " "))
				}
			}
		case o.names:
			fmt.Fprintf(w, "    %s %d\n", f, g.lines[f])
		}
	}
}
