package main

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
)

// Targets. The tests are 1 to 1.5 times as long as the code. Of comments within bodies,
// etcd's storage has 6 in 100 lines, bbolt 11, wtf 14.
const (
	testsLow, testsHigh = 1, 1.5
	bodyComments        = 4
)

// shown are the packages whose use Example functions show.
var shown = []string{"alloc", "hive/proc", "httpapi/client", "store"}

// sums are what is counted of a package, or of all of them.
type sums struct {
	code, comments         int // lines of its production files
	body, bodyCommentLines int // lines within the functions of those that are not blank, and those that are comments
	tests                  int // lines of code of its tests
	examples               int
}

func (s *sums) add(f *file) {
	if f.isTest() {
		s.tests += f.count(1, f.lines(), code)
		s.examples += examples(f)
		return
	}
	s.code += f.count(1, f.lines(), code)
	s.comments += f.count(1, f.lines(), comment)
	for _, d := range f.syntax.Decls {
		d, ok := d.(*ast.FuncDecl)
		if !ok || d.Body == nil {
			continue
		}
		// Without the lines of the braces.
		first, last := f.line(d.Body.Lbrace)+1, f.line(d.Body.Rbrace)-1
		if first > last {
			continue
		}
		comments := f.count(first, last, comment)
		s.body += comments + f.count(first, last, code)
		s.bodyCommentLines += comments
	}
}

func examples(f *file) int {
	n := 0
	for _, d := range f.syntax.Decls {
		if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && strings.HasPrefix(d.Name.Name, "Example") {
			n++
		}
	}
	return n
}

// packages measures comments, tests and examples, of all packages outside test/ and of each.
func (r *report) packages(files []*file) {
	by := map[string]*sums{}
	var all sums
	for _, f := range files {
		if f.inTestTree() || f.isGenerated() {
			continue
		}
		if by[f.dir()] == nil {
			by[f.dir()] = &sums{}
		}
		by[f.dir()].add(f)
		all.add(f)
	}
	r.known("comments, % of the lines that are not blank", fmt.Sprintf("%.1f", percent(all.comments, all.code+all.comments)))
	r.atLeast("comments in bodies, of 100 lines", percent(all.bodyCommentLines, all.body), bodyComments)
	r.between("code of tests : code", ratio(all.tests, all.code), testsLow, testsHigh)
	missing := slices.DeleteFunc(slices.Clone(shown), func(dir string) bool { return by[dir] != nil && by[dir].examples > 0 })
	r.atMost("packages without an Example, of "+strings.Join(shown, " "), len(missing), 0)
	r.known("Example functions", fmt.Sprint(all.examples))

	lines := []string{"package\tcode\tcomments %\tin bodies %\ttests : code\texamples"}
	for _, dir := range slices.Sorted(maps.Keys(by)) {
		s := by[dir]
		lines = append(lines, fmt.Sprintf("%s\t%d\t%.1f\t%.1f\t%.2f\t%d", dir, s.code,
			percent(s.comments, s.code+s.comments), percent(s.bodyCommentLines, s.body), ratio(s.tests, s.code), s.examples))
	}
	r.detail("by package", lines)
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func percent(a, b int) float64 { return 100 * ratio(a, b) }
