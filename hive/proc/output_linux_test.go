package proc_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
)

// A command without a log tells what it writes, and is over with all that it started.
func TestOutputOfACommand(t *testing.T) {
	cmd := shell(t, "echo out; echo err >&2; exit 3")
	cmd.Log = ""
	res, err := proc.Run(t.Context(), cmd)
	require.NoError(t, err)
	require.Equal(t, code(3), res.Exit.Code)
	require.Equal(t, "out\nerr\n", string(res.Output))

	// As another user, who has nothing of hive's.
	if os.Geteuid() == 0 {
		cmd.User, cmd.Dir = anotherUser, "/"
		cmd.Argv = []string{"/bin/sh", "-c", "id -u; id -G; grep NoNewPrivs /proc/self/status; echo x >/dev/stderr"}
		res, err = proc.Run(t.Context(), cmd)
		require.NoError(t, err)
		require.Equal(t, "54321\n54322\nNoNewPrivs:\t1\nx\n", string(res.Output))
	}
}

// However much it writes, only the beginning is kept, and it is not held up.
func TestOutputIsBounded(t *testing.T) {
	cmd := shell(t, "head -c 3000000 /dev/zero | tr '\\0' x; exit 4")
	cmd.Log = ""
	res, err := proc.Run(t.Context(), cmd)
	require.NoError(t, err)
	require.Equal(t, code(4), res.Exit.Code)
	require.Equal(t, strings.Repeat("x", 256<<10), string(res.Output))
}

// A command that does not end is killed when its time is up, whatever it ignores, and so
// is what it has started in a session of its own.
func TestCommandWithOutputThatGoesOn(t *testing.T) {
	for name, grouped := range map[string]bool{"with a cgroup": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "grandchild")
			cmd := newCommand(t, "parent", file, "stamped")
			cmd.Log = ""
			if !grouped {
				withoutCgroups(t, cmd)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() { announced(t, file); cancel(context.DeadlineExceeded) }()
			begun := time.Now()
			_, err := proc.Run(ctx, cmd)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(begun), testTimeout)
			require.False(t, running(announced(t, file)))

			// The same when it ends by itself and leaves somebody behind.
			cmd.Argv = []string{"/bin/sh", "-c", "setsid sleep 60 & echo $!"}
			res, err := proc.Run(t.Context(), cmd)
			require.NoError(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(string(res.Output)))
			require.NoError(t, err)
			require.Len(t, res.Ended, 1)
			require.False(t, running(pid))
		})
	}
}

// A worker has no such output: nothing would read it.
func TestASpecNeedsALog(t *testing.T) {
	spec := newSpec(t, "exit", "0")
	spec.Log = ""
	before := openFiles(t)
	_, err := proc.Start(spec)
	require.ErrorContains(t, err, "log: expected the path of a file")
	require.Equal(t, before, openFiles(t))
}
