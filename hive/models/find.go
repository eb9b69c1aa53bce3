package models

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// Find is the id of the model of the catalog that a name means. That is the name itself,
// except where it is org/name without a file, there is no such model, and files of this
// machine were imported under it: then it is the one that was. Of several it is ErrAmbiguous.
// Of what came from the hub org/name is no shorter name: there it may mean another file, or
// all. It reads names, and the metadata of those that may be meant.
func (l *Library) Find(name string) (id string, err error) {
	parsed, err := ParseID(name)
	if err != nil || parsed.File != "" {
		return name, nil //nolint:nilerr // a path, or a name that only the program knows
	}
	root, err := l.root(false)
	if err != nil {
		return name, nil //nolint:nilerr // whoever gets the model is told
	}
	defer func() { _ = root.Close() }() // only read from
	if _, err := root.Lstat(filepath.Join(escape(name), metadataName)); err == nil {
		return name, nil
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return name, nil //nolint:nilerr // as above
	}
	var found []string
	for _, e := range entries {
		text, ok := unescape(e.Name())
		if !ok || !strings.HasPrefix(text, name+":") {
			continue
		}
		if file, err := ParseID(text); err == nil {
			if m, err := l.load(root, file); err == nil && m.Commit == "" {
				found = append(found, text)
			}
		}
	}
	switch len(found) {
	case 0:
		return name, nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: several files were imported as %s; say %s", ErrAmbiguous, name, some(found))
}
