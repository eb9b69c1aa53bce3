package httpapi_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
)

// codesIn are the first groups of a pattern's matches in a file, without doubles.
func codesIn(t *testing.T, file, pattern string) (codes []string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(raw), -1) {
		codes = append(codes, m[1])
	}
	require.NotEmpty(t, codes, "%s: %s", file, pattern)
	slices.Sort(codes)
	return slices.Compact(codes)
}

// docs/troubleshooting.md has every code that a job can fail or a request be refused
// with, and no others; and each says why and what to do.
func TestTroubleshootingHasEveryCode(t *testing.T) {
	jobs := codesIn(t, "../hive/errdefs/errdefs.go", `(?m)^\tCode\w+ += "(\w+)"`)
	all := slices.Compact(slices.Sorted(slices.Values(slices.AppendSeq(jobs, maps.Keys(httpapi.Codes())))))

	const file = "../docs/troubleshooting.md"
	require.Equal(t, all, codesIn(t, file, "(?m)^### `(\\w+)`$"), file)
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, section := range strings.Split(string(raw), "\n### ")[1:] {
		section, _, _ = strings.Cut(section, "\n## ")
		for _, part := range []string{"**You see**", "**Why**", "**Do**"} {
			require.Contains(t, section, part)
		}
	}
}
