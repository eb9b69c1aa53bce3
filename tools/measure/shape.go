package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"slices"
)

// Targets. bbolt, wtf and etcd's storage have functions of at most 54 lines at the 95th
// percentile, and under 1% over 100.
const (
	hiveFields      = 20
	functionP95     = 54
	functionLongest = 70
	fileLongest     = 450
)

// hive measures the daemon's struct.
func (r *report) hive(files []*file) {
	fields, methods := 0, 0
	in := map[string]bool{}
	for _, f := range files {
		if f.dir() != "hive" || f.isTest() {
			continue
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if receiver(d) == "Hive" {
					methods++
					in[f.path] = true
				}
			case *ast.GenDecl:
				fields += fieldsOf(d, "Hive")
			}
		}
	}
	r.atMost("fields of hive.Hive", fields, hiveFields)
	r.known("methods of hive.Hive", fmt.Sprintf("%d in %d files", methods, len(in)))
}

// fieldsOf counts the fields of a struct, if d declares it.
func fieldsOf(d *ast.GenDecl, name string) int {
	n := 0
	for _, spec := range d.Specs {
		spec, ok := spec.(*ast.TypeSpec)
		if !ok || spec.Name.Name != name {
			continue
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				n += max(1, len(f.Names)) // an embedded field has no name
			}
		}
	}
	return n
}

// receiver is the name of the type that d is a method of; empty if none.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	if ident, ok := t.(*ast.Ident); ok {
		return ident.Name
	}
	return ""
}

// functions measures the lines of functions, from the word func to the last brace.
func (r *report) functions(files []*file) {
	type function struct {
		name  string
		lines int
	}
	var all []function
	for _, f := range files {
		if !f.isProduction() {
			continue
		}
		for _, d := range f.syntax.Decls {
			if d, ok := d.(*ast.FuncDecl); ok {
				first := f.line(d.Type.Func)
				all = append(all, function{fmt.Sprintf("%s:%d %s", f.path, first, d.Name.Name), f.line(d.End()) - first + 1})
			}
		}
	}
	if len(all) == 0 {
		return
	}
	slices.SortStableFunc(all, func(a, b function) int { return cmp.Compare(b.lines, a.lines) })
	r.atMost("lines of a function, 95th percentile", all[(len(all)-1)*5/100].lines, functionP95)
	r.atMost("lines of the longest function", all[0].lines, functionLongest)
	var long []string
	for _, f := range all {
		if f.lines > functionLongest {
			long = append(long, fmt.Sprintf("%d\t%s", f.lines, f.name))
		}
	}
	r.detail(fmt.Sprintf("functions of more than %d lines", functionLongest), long)
}

// longFiles measures the lines of files, those of tests too.
func (r *report) longFiles(files []*file) {
	byLength := slices.DeleteFunc(slices.Clone(files), (*file).isGenerated)
	slices.SortStableFunc(byLength, func(a, b *file) int { return cmp.Compare(b.lines(), a.lines()) })
	if len(byLength) == 0 {
		return
	}
	r.atMost("lines of the longest file", byLength[0].lines(), fileLongest)
	var long []string
	for _, f := range byLength {
		if f.lines() > fileLongest {
			long = append(long, fmt.Sprintf("%d\t%s", f.lines(), f.path))
		}
	}
	r.detail(fmt.Sprintf("files of more than %d lines", fileLongest), long)
}
