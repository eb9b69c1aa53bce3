package lifecycle_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// records are the names by which production code has a worker's record in hand.
var records = map[string]bool{"rec": true, "w": true, "recorded": true, "running": true, "r": true}

// Transition is the only code that gives a worker a state: an assignment to the State of
// a record anywhere else in hive would be a way around the table. `make measure` finds
// the same by types; this one needs only the syntax, and runs with every test.
func TestTransitionIsTheOnlyAssigner(t *testing.T) {
	found := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, to := range n.Lhs {
					if field, ok := to.(*ast.SelectorExpr); ok && field.Sel.Name == "State" && isRecord(field.X) && !isJobOrLease(path) {
						found[files.Position(n.Pos()).String()] = true
					}
				}
			case *ast.CompositeLit:
				if typ, ok := n.Type.(*ast.SelectorExpr); !ok || typ.Sel.Name != "Worker" {
					return true
				}
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "State" {
							found[files.Position(n.Pos()).String()] = true
						}
					}
				}
			}
			return true
		})
		return nil
	})
	require.NoError(t, err)
	require.Len(t, found, 1, "%v", found)
	for position := range found {
		require.Contains(t, position, "lifecycle/transition.go")
	}
}

// isRecord reports whether an expression is a worker's record, by the name it ends in.
func isRecord(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return records[x.Name]
	case *ast.SelectorExpr:
		return records[x.Sel.Name]
	}
	return false
}

// isJobOrLease reports whether a file is of the packages whose records are jobs.
func isJobOrLease(path string) bool { return strings.HasPrefix(path, "../jobs/") }
