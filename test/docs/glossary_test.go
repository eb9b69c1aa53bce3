package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGlossary: a word has one entry, and is found by the alphabet.
func TestGlossary(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "docs/glossary.md"))
	require.NoError(t, err)
	entry := regexp.MustCompile(`(?m)^\| \*\*(.+?)\*\* \| (.+) \|$`)
	where := map[string]string{}
	for _, section := range strings.Split(string(raw), "\n## ")[1:] {
		title, _, _ := strings.Cut(section, "\n")
		last := ""
		for _, m := range entry.FindAllStringSubmatch(section, -1) {
			require.Empty(t, where[m[1]], "%s: has two entries", m[1])
			where[m[1]] = title
			require.Less(t, last, m[1], "%s: the order", title)
			last = m[1]
		}
		require.NotEmpty(t, last, title)
	}
	require.Greater(t, len(where), 100)
	for _, m := range regexp.MustCompile(`\*([a-z ]+)\*`).FindAllStringSubmatch(strings.ReplaceAll(string(raw), "**", ""), -1) {
		word := strings.TrimSuffix(strings.TrimSuffix(m[1], "s"), "ed")
		_, is := where[m[1]]
		_, singular := where[word]
		require.True(t, is || singular || m[1] == "italics" || m[1] == "Fixed" || m[1] == "Free", "%q refers to an entry that is not there", m[1])
	}
}
