package output_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/test/skip"
)

func TestShellWords(t *testing.T) {
	for want, words := range map[string][]string{
		"llama-server --port 8080 -m /m/q.gguf": {"llama-server", "--port", "8080", "-m", "/m/q.gguf"},
		`'/my models/q' '' '$HOME' '~' 'a;b'`:   {"/my models/q", "", "$HOME", "~", "a;b"},
		`'it'\''s' 'ü' user/repo:Q4_K_M`:        {"it's", "ü", "user/repo:Q4_K_M"},
		`$'a\012b\'c\\\033[2J'`:                 {"a\nb'c\\\x1b[2J"},
	} {
		require.Equal(t, want, output.ShellWords(words))
	}
}

// What is printed is what a shell reads.
func TestAShellReadsTheSameWords(t *testing.T) {
	words := []string{"plain", "", "two words", "it's", `back\slash`, "$(id)", "`id`", "*", "a\nb\n", "tab\t", "\x1b[2J", "é\u0085", "#", "!x", "~", "{a,b}"}
	shells := 0
	for _, name := range []string{"bash", "zsh"} {
		sh, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		shells++
		out, err := exec.Command(sh, "-c", "printf '%s\\0' "+output.ShellWords(words)).Output()
		require.NoError(t, err)
		require.Equal(t, strings.Join(words, "\x00")+"\x00", string(out), name)
	}
	if shells == 0 {
		skip.Because(t, "neither bash nor zsh is installed")
	}
}
