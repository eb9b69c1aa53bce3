//go:build linux

package attack_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
)

// namer is a process that calls itself what it likes and listens on a port:
// `namer NAME HOST:PORT`.
func namer(args []string) int {
	// The main thread's name is the process's; main functions run on it here.
	if err := os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", os.Getpid()), []byte(args[0]), 0); err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := net.Listen("tcp", args[1]); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	_ = unix.Pause()
	return 0
}

// names are names of processes, at most 15 bytes, by the effect that they would have on
// a terminal or its reader.
func names() map[string]string {
	return map[string]string{
		"clear the screen":             "\x1b[2J\x1b[Hroot#",
		"set the title":                "\x1b]0;owned\x07",
		"answer as if typed":           "\x1b[c\x1b[5n",
		"write over the line":          "a\rok\b\b",
		"a control of C1":              "\u009b2Jx",
		"a line of its own":            "x\nall is well",
		"right to left":                "\u202egnp.exe",
		"what is not to be seen":       "ro\u200bot\u2060\ufeff",
		"bytes that are no characters": "x\xff\xfe\x9b2J",
	}
}

// clean requires that text has nothing in it that a terminal interprets, reorders or
// hides.
func clean(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		bad := r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) || r == unicode.ReplacementChar && !strings.HasPrefix(text[i:], "\uFFFD")
		require.False(t, bad, "%s has %q in %q", what, r, text[max(0, i-40):min(len(text), i+40)])
	}
}

func TestTheNameOfAProcess(t *testing.T) {
	for effect, name := range names() {
		t.Run("to have root's terminal do something: "+effect, func(t *testing.T) {
			s := newSite(t, "ports: {range: 8080-8089}\naudit: {interval: 1s}\nlog_level: debug\n")
			a := s.stranger().start(s.stranger().command("namer", name, "127.0.0.1:8080"))
			a.awaitLine("ready")
			s.start()
			for _, args := range [][]string{{"ports"}, {"doctor"}, {"audit"}, {"status"}, {"up", "cpu", "--port", "8080"}} {
				out, _ := s.root().run(s.hivectl(args...))
				if args[0] == "ports" {
					require.Contains(t, out, itoa(a.cmd.Process.Pid), "it is shown")
				}
				clean(t, "hivectl "+strings.Join(args, " "), out)
				require.NotContains(t, out, "\nall is well")
			}
			clean(t, "what hive prints", s.printed())
			require.NotContains(t, s.printed(), "\nall is well")
		})
	}
	t.Run("to have root's terminal do something where hive says who has its port", func(t *testing.T) {
		s := newSite(t, "")
		s.stranger().start(s.stranger().command("namer", "\x1b[2J\r\n\u202e\u200bx", api)).awaitLine("ready")
		s.launch()
		s.await("the end of hive", s.ended)
		require.Contains(t, s.printed(), "7835", "it says so")
		clean(t, "what hive prints", s.printed())
	})
}

// What a caller may say about itself is shown to others.
func TestTheOwnerOfALease(t *testing.T) {
	s := newSite(t, "workers: []\n").start()
	for effect, name := range names() {
		t.Run("to have the terminal of whoever lists leases do something: "+effect, func(t *testing.T) {
			s := s.in(t)
			r := s.root().do(leaseFor(name))
			var lease wire.Lease
			if json.Unmarshal([]byte(r.Body), &lease) == nil && r.Status == http.StatusCreated {
				t.Cleanup(func() {
					s.ok(ask{Method: http.MethodDelete, Path: "/v1/leases/" + itoa(int(lease.Port)) + "?lease_id=" + lease.LeaseID}, nil)
				})
			}
			for _, args := range [][]string{{"leases", "list"}, {"ports"}, {"leases", "list", "-o", "yaml"}} {
				out, code := s.root().run(s.hivectl(args...))
				require.Zero(t, code, out)
				clean(t, "hivectl "+strings.Join(args, " "), out)
			}
		})
	}
}
