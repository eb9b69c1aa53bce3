//go:build linux

package attack_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// secretToken is what root's hivectl has to send and nobody else may see.
const secretToken = "squattersmustneverseethis234567squattersmustneversee"

// hivectl is root's, with the token of root's hive.
func (s *site) hivectl(args ...string) *exec.Cmd {
	cmd := s.root().command(binary("hivectl"), args...)
	cmd.Env = append(cmd.Env, "HIVE_DATA_DIR="+s.data, "HOME="+s.dir+"/home")
	return cmd
}

// tokenSite is a place with a token, and no hive yet.
func tokenSite(t *testing.T) *site {
	s := newSite(t, "workers: []\n")
	require.NoError(t, os.Mkdir(s.data, 0o700))
	require.NoError(t, os.WriteFile(s.data+"/token", []byte(secretToken+"\n"), 0o600))
	return s
}

// sawNothing requires that no squatter has got the token.
func sawNothing(t *testing.T, squatters ...*actor) {
	t.Helper()
	for _, a := range squatters {
		require.NotContains(t, strings.Join(a.lines(), "\n"), secretToken)
	}
}

// Anybody can listen on the port of the API while hive is down, or at an address that
// hive does not use, and would get what hivectl sends.
func TestASquatterOnHivesPort(t *testing.T) {
	for _, at := range []string{"127.0.0.1:7835", "[::1]:7835", "0.0.0.0:7835", "[::]:7835"} {
		for _, addr := range []string{"", "127.0.0.1:7835", "localhost:7835", "http://localhost:7835", "[::1]:7835", "http://[::1]:7835", "[::ffff:127.0.0.1]:7835"} {
			if at == "127.0.0.1:7835" && strings.Contains(addr, "[::1]") || at == "[::1]:7835" && !strings.Contains(addr, "[::1]") {
				continue // there is no listener
			}
			t.Run("the token, on "+at+" while hive is down, when hivectl asks "+addr, func(t *testing.T) {
				s := tokenSite(t)
				squatter := s.stranger().start(s.stranger().command("squatter", at))
				squatter.awaitLine("ready")
				args := []string{"ps"}
				if addr != "" {
					args = append(args, "--addr", addr)
				}
				for _, more := range [][]string{nil, {"--token-file", s.data + "/token"}} {
					out, _ := s.root().run(s.hivectl(append(args, more...)...))
					sawNothing(t, squatter)
					require.NotContains(t, out, secretToken)
				}
			})
		}
	}
	t.Run("the token, on [::1]:7835 while hive is up", func(t *testing.T) {
		s := tokenSite(t)
		squatter := s.stranger().start(s.stranger().command("squatter", "[::1]:7835"))
		squatter.awaitLine("ready")
		s.start()
		out, code := s.root().run(s.hivectl("--addr", api, "ps"))
		require.Zero(t, code, out)
		for _, addr := range []string{"localhost:7835", "[::1]:7835"} {
			s.root().run(s.hivectl("--addr", addr, "ps"))
			sawNothing(t, squatter)
		}
	})
}

// The kernel takes connections for a listener before anybody has accepted them; such
// a socket has neither an inode nor an owner, which reads as user 0.
func TestASquatterWhoTakesNobodyYet(t *testing.T) {
	for _, at := range []string{"127.0.0.1:7835", "[::1]:7835"} {
		t.Run("the token, on "+at+", by accepting late", func(t *testing.T) {
			s := tokenSite(t)
			squatter := s.stranger().start(s.stranger().command("squatter", "-later", at))
			squatter.awaitLine("ready")
			ctl := s.root().start(s.hivectl("--addr", at, "ps"))
			s.within(timeout/40, func() bool { return ctl.ended() })
			squatter.tell("now")
			s.await("the end of hivectl", func() bool {
				if strings.Contains(strings.Join(squatter.lines(), " "), secretToken) {
					return true
				}
				return ctl.ended()
			})
			sawNothing(t, squatter)
		})
	}
}

// A client that looks for the listener after it has connected may find another one than
// it is connected to: hive, which has just been started.
func TestASquatterWhoMakesRoomForHive(t *testing.T) {
	s := tokenSite(t)
	for range 10 {
		squatter := s.stranger().start(s.stranger().command("squatter", "-vanish", api))
		squatter.awaitLine("ready")
		heir := s.root().start(s.root().command("squatter", "-wait", api)) // as systemd has it for hive
		s.root().run(s.hivectl("--addr", api, "ps"))
		sawNothing(t, squatter)
		heir.end()
		squatter.end()
	}
}
