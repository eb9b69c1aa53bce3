package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// guides are the documents that lead a reader through the code.
var guides = []string{"CONTRIBUTING.md", "docs/architecture.md"}

var (
	inBackquotes = regexp.MustCompile("`([A-Za-z0-9_./]+)`")
	upper        = regexp.MustCompile(`[A-Z]`)
)

// tree is the names of all files, and the words of those of Go.
func tree(t *testing.T) (files, words map[string]bool) {
	t.Helper()
	files, words = map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" {
			return fs.SkipDir
		}
		path = strings.TrimPrefix(path, root+"/")
		files[path], files[filepath.Base(path)] = true, true
		if strings.HasSuffix(path, ".go") && !strings.HasPrefix(path, "test/docs/") {
			raw, err := os.ReadFile(filepath.Join(root, path))
			for word := range strings.FieldsFuncSeq(string(raw), func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
				words[word] = true
			}
			return err
		}
		return nil
	})
	require.NoError(t, err)
	return files, words
}

// unknownNames are the names of files and of Go in a text that are neither.
func unknownNames(text string, files, words map[string]bool) (names []string) {
	for _, m := range inBackquotes.FindAllStringSubmatch(text, -1) {
		name := m[1]
		if files[strings.TrimSuffix(name, "/")] {
			continue
		}
		if strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".md") {
			names = append(names, name)
			continue
		}
		for part := range strings.SplitSeq(name, ".") {
			if upper.MatchString(part) && !words[part] {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

// A guide that names a file or a function that is no longer there leads astray.
func TestGuidesNameWhatIsThere(t *testing.T) {
	files, words := tree(t)
	for _, guide := range guides {
		raw, err := os.ReadFile(filepath.Join(root, guide))
		require.NoError(t, err)
		require.Empty(t, unknownNames(string(raw), files, words), guide)
	}
	require.Equal(t, []string{"hive/nothing.go", "Hive.Nowhere", "startNothing"},
		unknownNames("`hive/nothing.go` `Hive.Nowhere` `startNothing` `Hive.Recover` `store/doc.go` `doc.go` `hive`", files, words))
}
