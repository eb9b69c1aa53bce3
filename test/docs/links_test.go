// Package docs_test holds what people read to what is there: links lead somewhere, the
// tour runs and prints what it says, and each thing has one name.
package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is where the repository is, seen from this package.
const root = "../.."

// documents are the Markdown files that belong to the project.
func documents(t *testing.T) (files []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		files = append(files, found...)
	}
	require.Greater(t, len(files), 20)
	return files
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unslug  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors are what the headings of a document can be linked by, as web viewers of
// Markdown make them.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.ReplaceAll(unslug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

// deadLinks are the links of a document that lead nowhere. Those to other sites are
// not followed.
func deadLinks(file, text string) (dead []string) {
	for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(target, "://") {
			continue
		}
		linked := text
		if target != "" {
			raw, err := os.ReadFile(filepath.Join(filepath.Dir(file), target))
			if err != nil {
				if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); err == nil && anchor == "" {
					continue // a directory
				}
				dead = append(dead, fmt.Sprintf("%s: %s: there is no such file", file, m[1]))
				continue
			}
			linked = string(raw)
		}
		if anchor != "" && !slices.Contains(anchors(linked), anchor) {
			dead = append(dead, fmt.Sprintf("%s: %s: no heading there has this name", file, m[1]))
		}
	}
	return dead
}

func TestLinksLeadSomewhere(t *testing.T) {
	links := 0
	for _, file := range documents(t) {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Empty(t, deadLinks(file, string(raw)))
		links += len(link.FindAllString(string(raw), -1))
	}
	require.Greater(t, links, 100)

	readme := filepath.Join(root, "README.md")
	require.Len(t, deadLinks(readme, "[a](docs/nothing.md) [b](docs/http.md#nothing) [c](#nothing) [d](https://example.org/x)"), 3)
	require.Empty(t, deadLinks(readme, "# It's `a_b`\n[a](docs/http.md) [b](docs/http.md#who-may-call) [c](#its-a_b)"))
}
