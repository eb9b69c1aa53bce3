package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// stateWrites returns where the field State of a store.Worker is written outside the
// function writer: by an assignment, by a literal of the record, or through its address.
// A record that is copied as a whole keeps its state, and does not count.
func stateWrites(pkgs []*packages.Package, writer string) ([]string, error) {
	state := stateField(pkgs)
	if state == nil {
		return nil, errors.New("package store has no Worker with a field State")
	}
	var writes []string
	for _, pkg := range pkgs {
		if strings.Contains(pkg.PkgPath+"/", "/test/") {
			continue
		}
		s := states{field: state, info: pkg.TypesInfo}
		for _, f := range pkg.Syntax {
			for _, d := range f.Decls {
				if d, ok := d.(*ast.FuncDecl); ok && pkg.TypesInfo.Defs[d.Name].(*types.Func).FullName() == writer {
					continue
				}
				ast.Inspect(d, s.look)
			}
		}
		for _, pos := range s.found {
			at := pkg.Fset.Position(pos)
			name := at.Filename
			if pkg.Module != nil {
				if relative, err := filepath.Rel(pkg.Module.Dir, name); err == nil {
					name = relative
				}
			}
			writes = append(writes, fmt.Sprintf("%s:%d", filepath.ToSlash(name), at.Line))
		}
	}
	return writes, nil
}

// stateField is store.Worker.State; nil if there is none.
func stateField(pkgs []*packages.Package) *types.Var {
	for _, pkg := range pkgs {
		if pkg.Module == nil || pkg.PkgPath != pkg.Module.Path+"/store" {
			continue
		}
		worker := pkg.Types.Scope().Lookup("Worker")
		if worker == nil {
			return nil
		}
		field, _, _ := types.LookupFieldOrMethod(worker.Type(), false, pkg.Types, "State")
		v, _ := field.(*types.Var)
		return v
	}
	return nil
}

// states finds the writes of a field in one package.
type states struct {
	field *types.Var
	info  *types.Info
	found []token.Pos
}

func (s *states) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for _, e := range n.Lhs {
			s.write(e)
		}
	case *ast.RangeStmt:
		s.write(n.Key)
		s.write(n.Value)
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			s.write(n.X)
		}
	case *ast.CompositeLit:
		s.literal(n)
	}
	return true
}

func (s *states) write(e ast.Expr) {
	if selector, ok := ast.Unparen(e).(*ast.SelectorExpr); ok && s.info.Uses[selector.Sel] == s.field {
		s.found = append(s.found, selector.Sel.Pos())
	}
}

func (s *states) literal(lit *ast.CompositeLit) {
	t := s.info.TypeOf(lit).Underlying()
	if pointer, ok := t.(*types.Pointer); ok { // an element of a list of pointers, whose type is left out
		t = pointer.Elem().Underlying()
	}
	record, ok := t.(*types.Struct)
	if !ok || !slices.Contains(slices.Collect(record.Fields()), s.field) {
		return
	}
	for i, element := range lit.Elts {
		keyed, ok := element.(*ast.KeyValueExpr)
		if !ok && record.Field(i) == s.field {
			s.found = append(s.found, element.Pos())
		}
		if ok && s.info.Uses[keyed.Key.(*ast.Ident)] == s.field {
			s.found = append(s.found, keyed.Pos())
		}
	}
}

func (r *report) states(writes []string, writer string) {
	r.atMost("places that write a worker's state outside "+writer, len(writes), 0)
	r.detail("who writes a worker's state", writes)
}
