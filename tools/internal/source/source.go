// Package source loads a module for the tools that look at its structure.
package source

import (
	"errors"
	"fmt"

	"golang.org/x/tools/go/packages"
)

// Load returns the packages of the module in dir, without tests, parsed and type-checked
// as the go command would build them here: files for another platform are left out.
// It runs the go command, which compiles what has changed.
func Load(dir string) ([]*packages.Package, error) {
	pkgs, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax | packages.NeedModule, Dir: dir}, "./...")
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	if len(pkgs) == 0 {
		return nil, fmt.Errorf("load %s: there are no packages", dir)
	}
	var faults []error
	for _, pkg := range pkgs {
		for _, fault := range pkg.Errors {
			faults = append(faults, fault)
		}
	}
	return pkgs, errors.Join(faults...)
}
