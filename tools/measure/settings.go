package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// setting counts the lines of production files that mention a setting: as an identifier
// in camel case, or by its own name in a string or the tag of a field.
func (r *report) setting(files []*file, name string) {
	identifier := strings.ReplaceAll(name, "_", "")
	whole := regexp.MustCompile(`(^|[^0-9A-Za-z_])` + regexp.QuoteMeta(name) + `([^0-9A-Za-z_]|$)`)
	var places []string
	in := map[string]bool{}
	for _, f := range files {
		if !f.isProduction() {
			continue
		}
		lines := map[int]bool{}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				if strings.EqualFold(n.Name, identifier) {
					lines[f.line(n.Pos())] = true
				}
			case *ast.BasicLit:
				if n.Kind == token.STRING && whole.MatchString(n.Value) {
					lines[f.line(n.Pos())] = true
				}
			}
			return true
		})
		for _, line := range slices.Sorted(maps.Keys(lines)) {
			places = append(places, fmt.Sprintf("%s:%d", f.path, line))
			in[f.path] = true
		}
	}
	r.known("mentions of the setting "+name, fmt.Sprintf("%d in %d files", len(places), len(in)))
	r.detail("where "+name+" is mentioned", places)
}
