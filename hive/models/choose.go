package models

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
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
		if !slices.ContainsFunc(files, func(f remoteFile) bool { return f.Path == id.File }) {
			return selection{}, fmt.Errorf("%w: %s has no file %q%s", ErrNotFound, id.Repo, clip(id.File), among(models(files)))
		}
		return withParts(commit, files, id.File)
	}
	found := models(files)
	switch {
	case len(found) > 1:
		return selection{}, fmt.Errorf("%w: %s has several models; say %s:FILE%s", ErrAmbiguous, id.Repo, id.Repo, among(found))
	case len(found) == 1:
		return withParts(commit, files, found[0])
	case len(files) == 0:
		return selection{}, fmt.Errorf("%w: %s has no files", ErrNotFound, id.Repo)
	}
	return selection{commit: commit, files: slices.Clone(files)}, nil
}

var partRE = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// partsOf are the files of the model that a file is of, in order: a part of one names how
// many there are. Programs are given the first and find the others by their names.
func partsOf(name string) []string {
	m := partRE.FindStringSubmatch(name)
	if m == nil {
		return []string{name}
	}
	n, _ := strconv.Atoi(m[2]) // digits
	of, _ := strconv.Atoi(m[3])
	if n < 1 || n > of {
		return []string{name} // not a part of that
	}
	var names []string
	for i := range of {
		names = append(names, fmt.Sprintf("%s-%05d-of-%s.gguf", m[1], i+1, m[3]))
	}
	return names
}

// models are the GGUF files. A model in parts counts once, by its first.
func models(files []remoteFile) (names []string) {
	for _, f := range files {
		if strings.EqualFold(path.Ext(f.Path), ".gguf") {
			names = append(names, partsOf(f.Path)[0])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// withParts selects one file, or all that it is a part of. One that is missing is
// ErrNotFound: without it no program can load the others.
func withParts(commit string, files []remoteFile, one string) (selection, error) {
	there := map[string]remoteFile{}
	for _, f := range files {
		there[f.Path] = f
	}
	names := partsOf(one)
	sel := selection{commit: commit, path: names[0]}
	var missing []string
	for _, name := range names {
		if f, ok := there[name]; ok {
			sel.files = append(sel.files, f)
		} else {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return selection{}, fmt.Errorf("%w: the repository has only %d of the %d parts of %s; missing: %s", ErrNotFound, len(sel.files), len(names), clip(one), some(missing))
	}
	return sel, nil
}

// among lists what there is instead, for a person.
func among(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; it has " + some(names)
}

// some lists some names.
func some(names []string) string {
	const most = 20
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
