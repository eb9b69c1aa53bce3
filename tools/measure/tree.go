package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// file is a Go file of the module, parsed.
type file struct {
	path   string // from the directory of the module
	fset   *token.FileSet
	syntax *ast.File
	kinds  []kind // of its lines
}

// kind is what a line holds. A line of code with a comment behind it is one of code.
type kind int

const (
	blank kind = iota
	comment
	code
)

func (f *file) dir() string        { return path.Dir(f.path) }
func (f *file) isTest() bool       { return strings.HasSuffix(f.path, "_test.go") }
func (f *file) isGenerated() bool  { return strings.HasSuffix(f.path, ".gen.go") }
func (f *file) inTestTree() bool   { return strings.HasPrefix(f.path, "test/") }
func (f *file) isProduction() bool { return !f.isTest() && !f.isGenerated() && !f.inTestTree() }

func (f *file) line(pos token.Pos) int { return f.fset.Position(pos).Line }

func (f *file) lines() int { return len(f.kinds) }

// count is how many of the lines from first to last are of a kind; the first of a file is 1.
func (f *file) count(first, last int, k kind) int {
	n := 0
	for _, l := range f.kinds[first-1 : last] {
		if l == k {
			n++
		}
	}
	return n
}

// readTree parses the Go files of the module in dir, those for other platforms too. It does
// not look into testdata, hidden directories and modules of their own.
func readTree(dir string) ([]*file, error) {
	var files []*file
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir:
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
		case !d.IsDir() && strings.HasSuffix(path, ".go"):
			f, err := readFile(dir, path)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		return nil, fmt.Errorf("%s: there are no Go files", dir)
	}
	return files, err
}

func readFile(dir, path string) (*file, error) {
	text, err := os.ReadFile(path) //nolint:gosec // a file of the tree that is measured
	if err != nil {
		return nil, err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return nil, err
	}
	f := &file{path: filepath.ToSlash(name), fset: token.NewFileSet(), kinds: lineKinds(text)}
	f.syntax, err = parser.ParseFile(f.fset, f.path, text, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

func lineKinds(text []byte) []kind {
	text = append(bytes.TrimRight(text, "\n"), '\n')
	kinds := make([]kind, bytes.Count(text, []byte("\n")))
	file := token.NewFileSet().AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, scanner.ScanComments)
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			return kinds
		}
		if tok == token.SEMICOLON && literal == "\n" {
			continue // it isn't in the text
		}
		k := code
		if tok == token.COMMENT {
			k = comment
		}
		first := file.Line(pos) - 1
		for i := first; i <= first+strings.Count(literal, "\n"); i++ {
			kinds[i] = max(kinds[i], k)
		}
	}
}
