package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/httpapi/client"
)

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]int{
		errors.New("x"):  1,
		context.Canceled: 1,
		&client.UnreachableError{Err: errors.New("x")}: 4,
		fmt.Errorf("%w: x", client.ErrAddress):         2,
		fmt.Errorf("%w: x", client.ErrNotAHive):        4,
		&client.Error{Status: 502}:                     4,
	} {
		code := cli.Classify(err).Code
		require.Equal(t, want, code, "%v", err)
	}
	for code, want := range map[string]int{
		"bad_request": 2, "unknown_field": 2, "unknown_operation": 2, "too_large": 2,
		"not_found": 3, "unknown_worker_type": 3, "shutting_down": 4,
		"recovering": 1, "conflict": 1, "queue_full": 1, "unauthorized": 1, "internal": 1, "disk_full": 1, "new_code": 1,
	} {
		got := cli.Classify(fmt.Errorf("wrapped: %w", &client.Error{Code: code, Status: 400, RequestID: "req-7"})).Code
		require.Equal(t, want, got, code)
	}
	hint := cli.Classify(&client.Error{Code: "internal", RequestID: "req-7"}).Hint
	require.Contains(t, hint, "req-7")
}

// Who has installed a package has no Makefile.
func TestAnInstalledHiveIsStartedAsAService(t *testing.T) {
	root := t.TempDir()
	require.Equal(t, "start it with `make run` or bin/hive", cli.StartHint(root))
	units := filepath.Join(root, "usr/lib/systemd/system")
	require.NoError(t, os.MkdirAll(units, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(units, "hive.service"), nil, 0o600))
	require.Equal(t, "start it with `systemctl start hive`", cli.StartHint(root))
}
