package freeport_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/test/freeport"
)

// Processes that ask for ports at the same time never get the same ones, whether
// somebody listens on them or not.
func TestProcessesGetPortsOfTheirOwn(t *testing.T) {
	if os.Getenv("HIVE_TEST_PORTS") == "1" {
		for range 20 {
			at, err := freeport.Range(30)
			require.NoError(t, err)
			os.Stdout.WriteString("port " + strconv.Itoa(at) + "\n")
		}
		os.Stdout.WriteString("done\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until all have theirs
		return
	}
	seen := map[int]int{}
	for child := range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "HIVE_TEST_PORTS=1")
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
		text := ""
		for buf := make([]byte, 4096); !strings.Contains(text, "done\n"); {
			n, err := out.Read(buf)
			require.NoError(t, err, text)
			text += string(buf[:n])
		}
		for line := range strings.Lines(text) {
			if at, ok := strings.CutPrefix(strings.TrimSpace(line), "port "); ok {
				first, err := strconv.Atoi(at)
				require.NoError(t, err)
				for port := first; port < first+30; port++ {
					other, twice := seen[port]
					require.False(t, twice, "port %d of %d and %d", port, other, child)
					seen[port] = child
				}
			}
		}
	}
	require.Len(t, seen, 4*20*30)
}

func TestManyPortsInARow(t *testing.T) {
	if testing.Short() {
		t.Skip("make check runs more packages at once: the ports that they hold leave no 2500 in a row")
	}
	at, err := freeport.Range(2500)
	require.NoError(t, err)
	next, err := freeport.Range(2)
	require.NoError(t, err)
	require.True(t, next >= at+2500 || next+2 <= at)
}
