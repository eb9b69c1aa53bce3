package models

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// selection is what a download fetches.
type selection struct {
	commit string
	files  []remoteFile
	path   string // what a program is given: one of the files, or empty for all
}

func (s selection) size() (n int64) {
	for _, f := range s.files {
		n += f.Size
	}
	return n
}

// choose decides which files of a repository an id means. One that names a file
// means that file. One that does not means the repository's only GGUF model; if
// there are several, it is ErrAmbiguous; and if there is none, all files. A model
// in parts (name-00001-of-00003.gguf) is all of them, and a program is given the
// first.
func choose(id ID, commit string, files []remoteFile) (selection, error) {
	if id.File != "" {
		i := slices.IndexFunc(files, func(f remoteFile) bool { return f.Path == id.File })
		if i < 0 {
			return selection{}, fmt.Errorf("%w: %s has no file %q%s", ErrNotFound, id.Repo, clip(id.File), among(models(files)))
		}
		return withParts(commit, files, files[i]), nil
	}
	found := models(files)
	switch {
	case len(found) > 1:
		return selection{}, fmt.Errorf("%w: %s has several models; say %s:FILE%s", ErrAmbiguous, id.Repo, id.Repo, among(found))
	case len(found) == 1:
		i := slices.IndexFunc(files, func(f remoteFile) bool { return f.Path == found[0] })
		return withParts(commit, files, files[i]), nil
	case len(files) == 0:
		return selection{}, fmt.Errorf("%w: %s has no files", ErrNotFound, id.Repo)
	}
	return selection{commit: commit, files: slices.Clone(files)}, nil
}

var partRE = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// models are the GGUF files, by their first part.
func models(files []remoteFile) (names []string) {
	for _, f := range files {
		// A model in parts counts once.
		if part := partRE.FindStringSubmatch(f.Path); part != nil && part[2] != "00001" {
			continue
		}
		if strings.EqualFold(path.Ext(f.Path), ".gguf") {
			names = append(names, f.Path)
		}
	}
	slices.Sort(names)
	return names
}

// withParts selects one file, or all that it is a part of.
func withParts(commit string, files []remoteFile, one remoteFile) selection {
	sel := selection{commit: commit, path: one.Path, files: []remoteFile{one}}
	part := partRE.FindStringSubmatch(one.Path)
	if part == nil {
		return sel
	}
	sel.files = nil
	for _, f := range files {
		if p := partRE.FindStringSubmatch(f.Path); p != nil && p[1] == part[1] && p[3] == part[3] {
			sel.files = append(sel.files, f)
		}
	}
	slices.SortFunc(sel.files, func(a, b remoteFile) int { return strings.Compare(a.Path, b.Path) })
	// Programs are given the first part and find the others by name.
	sel.path = sel.files[0].Path
	return sel
}

// among lists some names for a person.
func among(names []string) string {
	const most = 20
	if len(names) == 0 {
		return ""
	}
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	return "; it has " + strings.Join(names, ", ") + more
}
