package command

import (
	"fmt"
	"strings"
	"unicode"
)

// shellWords is a command line that a shell reads as exactly these words.
func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

// shellWord quotes a word if it needs it. One with control characters is written
// as $'...' (POSIX.1-2024, bash, zsh): the terminal never sees them, and what is
// copied from it is still the same word.
func shellWord(w string) string {
	switch {
	case strings.ContainsFunc(w, unicode.IsControl):
		return "$'" + escaped(w) + "'"
	case w == "" || strings.ContainsFunc(w, needsQuote):
		return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return w
}

func needsQuote(r rune) bool {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-"
	return !strings.ContainsRune(plain, r)
}

func escaped(w string) string {
	var b strings.Builder
	for _, r := range w {
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case unicode.IsControl(r):
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\%03o`, c)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
