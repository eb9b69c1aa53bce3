package input_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/input"
)

func TestDidYouMean(t *testing.T) {
	known := []string{"wait", "dry_run", "pid", "walt"}
	for name, want := range map[string]string{
		"dryrun": "dry_run", "dry-run": "dry_run", "wai": "wait", "wat": "wait", "pd": "pid",
		"": "", "qwertz": "", "px": "",
	} {
		if want != "" {
			want = `; did you mean "` + want + `"?`
		}
		require.Equal(t, want, input.DidYouMean(name, known), name)
	}
	require.Equal(t, "wait", known[0], "the caller's list is as it was")
}
