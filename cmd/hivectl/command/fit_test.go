package command_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

// The order in which columns go: free text is cut, then what one can do without is
// left out, and which worker it is and how it does stays.
func TestTablesGiveWayInOrder(t *testing.T) {
	w := strings.NewReplacer(`"model":null`, `"model":"/models/a-rather-long-name.gguf"`, `"device":null`, `"device":"0"`).Replace(
		because(worker("cpu-8080-abcdef", "a-long-name-for-a-worker", "failed", 8080), "exited with code 7: the weights do not fit"))
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/workers": workers(w)})
	for _, c := range []struct {
		width int
		want  string
	}{
		{0, "WORKER           NAME                      STATE   PORT  PID  AGE   MODEL                            DEVICE  REASON\n" +
			"cpu-8080-abcdef  a-long-name-for-a-worker  failed  8080  -    1m0s  /models/a-rather-long-name.gguf  0       exited with code 7: the weights do not fit\n"},
		{120, "WORKER           NAME                    STATE   PORT  PID  AGE   MODEL                   DEVICE  REASON\n" +
			"cpu-8080-abcdef  a-long-name-for-a-wor~  failed  8080  -    1m0s  /models/a-rather-long~  0       exited with code 7: t~\n"},
		{80, "WORKER           NAME       STATE   PORT  PID  AGE   MODEL      REASON\n" +
			"cpu-8080-abcdef  a-long-n~  failed  8080  -    1m0s  /models/~  exited with cod~\n"},
		{60, "WORKER           NAME         STATE   PORT  REASON\n" +
			"cpu-8080-abcdef  a-long-nam~  failed  8080  exited with cod~\n"},
		{50, "WORKER           NAME                 STATE   PORT\n" +
			"cpu-8080-abcdef  a-long-name-for-a-~  failed  8080\n"},
		{26, "WORKER           STATE\ncpu-8080-abcdef  failed\n"},
		{12, "WORKER     ~\ncpu-8080-ab~\n"},
	} {
		r := hivectlWith(t, func(e *cli.Env) {
			e.Width = c.width
			e.Getenv = func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
		}, "--addr", addr, "workers", "list")
		require.Zero(t, r.code, r.stderr)
		require.Equal(t, c.want, r.stdout, c.width)
	}
}
