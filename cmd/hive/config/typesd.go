package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rbeehive/hive/catalog"
	"rbeehive/hive/trust"
	"rbeehive/hive/workertype"
)

func typesIn(dataDir string) string { return filepath.Join(dataDir, workertype.TypesDir) }

// addInstalled reads what worker_install has written, in the order of the names; no
// directory is no mistake, unless an entry was read from it before. An entry of hive.yaml of
// the same name wins; the file is named in Shadowed then. Hidden files are left by a process
// that was killed while it wrote a file.
func (all *entries) addInstalled(dataDir string, had []catalog.Entry) {
	dir, own := typesIn(dataDir), all.c.Workers
	all.c.Shadowed = nil
	err := trust.Dir(dir)
	if absent(dir, err) {
		all.checkGone(dir, had)
		return
	}
	var files []fs.DirEntry
	if err == nil {
		files, err = os.ReadDir(dir)
	}
	if link := dangling(dir); link != nil {
		err = link
	}
	if err != nil {
		all.add(unreadable(dir, err))
		return
	}
	for _, d := range files {
		if strings.HasPrefix(d.Name(), ".") {
			continue
		}
		e, at, ok := all.readType(filepath.Join(dir, d.Name()), d)
		switch {
		case !ok:
		case slices.ContainsFunc(own, func(o catalog.Entry) bool { return o.Name == e.Name }):
			all.c.Shadowed = append(all.c.Shadowed, e.File)
		default:
			all.admit(e, at)
		}
	}
}

// checkGone refuses to take a directory that has vanished for types that were removed.
func (all *entries) checkGone(dir string, had []catalog.Entry) {
	var names []string
	for _, e := range had {
		if filepath.Dir(e.File) == dir {
			names = append(names, e.Name)
		}
	}
	if len(names) > 0 {
		all.add(&Error{Source: dir, Reason: fmt.Sprintf("no longer exists, and %s came from it; restore it, or make an empty directory there if no type is installed any more", strings.Join(names, ", "))})
	}
}

// readType reads one file: the keys of one entry of workers.
func (all *entries) readType(path string, d fs.DirEntry) (e catalog.Entry, at place, ok bool) {
	if wrong := checkTypeFile(path, d); wrong != nil {
		all.add(wrong)
		return e, at, false
	}
	text, err := trust.ReadFile(path, maxFileSize)
	if err != nil {
		all.add(unreadable(path, err))
		return e, at, false
	}
	doc := newDocument(path, text)
	if doc.root == nil && !doc.broken {
		doc.add(doc.mistake(1, "", "it is empty; expected the keys of one worker entry, name first"))
	} else if !doc.broken {
		rules := fileRules().keys[workersKey]
		rules.list = false
		doc.checkKeys(doc.root, rules, "")
	}
	slices.SortStableFunc(doc.Mistakes, byLine)
	for _, wrong := range doc.Mistakes {
		all.add(wrong)
	}
	if len(doc.Mistakes) > 0 {
		return e, at, false
	}
	at = place{file: path, node: doc.root}
	e, ok = all.decode(doc.data, at, strings.TrimSuffix(d.Name(), ".yaml"))
	e.File = path
	return e, at, ok
}

// checkTypeFile refuses what worker_install has not written.
func checkTypeFile(path string, d fs.DirEntry) *Error {
	info, err := d.Info()
	if err != nil {
		return &Error{Source: path, Reason: err.Error()}
	}
	name, isYAML := strings.CutSuffix(d.Name(), ".yaml")
	if !isYAML || !catalog.ValidName(name) || !info.Mode().IsRegular() {
		return &Error{Source: path + ":1", Reason: "this directory holds only files NAME.yaml that worker_install writes; move it away"}
	}
	return nil
}
