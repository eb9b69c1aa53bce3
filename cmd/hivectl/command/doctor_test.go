package command_test

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

const (
	okJSON      = `{"name":"ports","status":"ok","found":"1920 in all, 1918 free, 2 leased","means":null,"do":null}`
	warningJSON = `{"name":"squatters","status":"warning","found":"8080 python3 (pid 4711, user bob)","means":"hive passes these ports over: workers get others, and who asks for one of these gets port_unavailable","do":"end them; or if they are to stay, add ` + "`8080`" + ` to ` + "`ports.reserved`" + ` in hive.yaml"}`
	unknownJSON = `{"name":"clock","status":"unknown","found":"nobody vouches for it","means":"it may be right","do":"` + "`timedatectl set-ntp true`" + `"}`
)

func doctorSays(t *testing.T, body string) string {
	_, addr := serve(t, map[string]http.HandlerFunc{"GET /v1/doctor": answer(body)})
	return addr
}

func TestDoctorWarns(t *testing.T) {
	body := `{"checks":[` + okJSON + `,` + warningJSON + `,` + unknownJSON + `],"warnings":1}`
	addr := doctorSays(t, body)
	r := hivectl(t, addr, "doctor")
	require.Equal(t, result{1, `ok       ports      1920 in all, 1918 free, 2 leased
warning  squatters  8080 python3 (pid 4711, user bob)
         means      hive passes these ports over: workers get others, and who
                    asks for one of these gets port_unavailable
         do         end them; or if they are to stay, add ` + "`8080`" + ` to
                    ` + "`ports.reserved`" + ` in hive.yaml
unknown  clock      nobody vouches for it
         means      it may be right
         do         ` + "`timedatectl set-ntp true`" + `

3 checks: 1 warning, 1 unknown
`, ""}, r)
	require.Equal(t, result{1, "squatters\n", ""}, hivectl(t, addr, "doctor", "-q"))
	require.Equal(t, result{1, body + "\n", ""}, hivectl(t, addr, "doctor", "-o", "json"))
	r = hivectl(t, addr, "doctor", "-o", "yaml")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stdout, "checks:\n  - name: ports\n    status: ok\n")
	require.Contains(t, r.stdout, "\nwarnings: 1\n")
}

// What cannot be seen is no reason to fail, and neither is a status of a later
// hive that this hivectl does not know.
func TestDoctorWithoutWarnings(t *testing.T) {
	later := strings.Replace(okJSON, `"ok"`, `"splendid"`, 1)
	addr := doctorSays(t, `{"checks":[`+unknownJSON+`,`+later+`],"warnings":0}`)
	r := hivectl(t, addr, "doctor")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "\nsplendid  ports  1920 in all")
	require.True(t, strings.HasSuffix(r.stdout, "\n\n2 checks: no warnings, 1 unknown\n"), r.stdout)
	require.Equal(t, result{0, "", ""}, hivectl(t, addr, "doctor", "-q"))

	r = hivectl(t, doctorSays(t, `{"checks":[`+warningJSON+`,`+warningJSON+`],"warnings":2}`), "doctor")
	require.Contains(t, r.stdout, "\n\n2 checks: 2 warnings\n")
}

func TestDoctorWithoutADaemon(t *testing.T) {
	r := hivectl(t, "unix:/nonexistent", "doctor")
	require.Equal(t, 4, r.code)
	require.Contains(t, r.stderr, "hivectl: no hive at ")
	_, addr := serve(t, nil)
	require.Equal(t, 3, hivectl(t, addr, "doctor").code, "a hive that has no doctor yet")
	require.Equal(t, 2, hivectl(t, addr, "doctor", "now").code)
}

func TestDoctorOnATerminal(t *testing.T) {
	evil := strings.Replace(warningJSON, "python3", `py\u001b[2Jthon`, 1)
	addr := doctorSays(t, `{"checks":[`+okJSON+`,`+evil+`,`+unknownJSON+`],"warnings":1}`)
	for _, width := range []int{200, 80, 60} {
		r := hivectlWith(t, func(e *cli.Env) { e.Width = width }, "--addr", addr, "doctor")
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stdout, "\x1b[32mok     \x1b[0m  ports ")
		require.Contains(t, r.stdout, "\x1b[31mwarning\x1b[0m  squatters ")
		require.Contains(t, r.stdout, "\x1b[33munknown\x1b[0m  clock ")
		plain := strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(r.stdout)
		require.NotContains(t, plain, "\x1b")
		for line := range strings.Lines(plain) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), min(width, 80), line)
		}
	}
}
