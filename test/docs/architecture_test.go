package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// supporting are packages that a map of the product need not have.
var supporting = regexp.MustCompile(`(^|/)(internal|testdata|storetest)(/|$)`)

// TestEveryPackageIsOnTheMap holds the map of docs/architecture.md to the tree.
func TestEveryPackageIsOnTheMap(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "docs/architecture.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(raw), "\n## Packages\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	drawing := strings.Join(regexp.MustCompile(`(?m)^    .*$`).FindAllString(section, -1), "\n")
	onTheMap := func(pkg string) bool {
		return regexp.MustCompile(`(^|\W)` + filepath.Base(pkg) + `(\W|$)`).MatchString(drawing)
	}
	seen := 0
	for _, top := range []string{"cmd", "httpapi", "hive", "alloc", "store", "migrations"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			pkg := strings.TrimPrefix(path, root+"/")
			sources, err := filepath.Glob(filepath.Join(path, "*.go"))
			if err == nil && len(sources) > 0 && !supporting.MatchString(pkg) {
				seen++
				require.True(t, onTheMap(pkg), "%s: no such name in the map of docs/architecture.md", pkg)
			}
			return err
		})
		require.NoError(t, err)
	}
	require.Greater(t, seen, 20)
	require.False(t, onTheMap("hive/nothing"))
}
