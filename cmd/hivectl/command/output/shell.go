package output

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"rbeehive/store/plain"
)

// ShellWords is a command line that a shell reads as exactly these words.
func ShellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = ShellWord(w)
	}
	return strings.Join(quoted, " ")
}

// ShellWord quotes a word if it needs it. One that is not plain text is written as
// $'...' (POSIX.1-2024, bash, zsh): the terminal never sees what is in it, and what is
// copied from it is still the same word.
func ShellWord(w string) string {
	switch {
	case plain.Flaw(w) != "":
		return "$'" + escaped(w) + "'"
	case w == "" || strings.ContainsFunc(w, needsQuote):
		// Nothing is special within single quotes, and so nothing can escape one: they are closed for it.
		return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return w
}

func needsQuote(r rune) bool {
	const safe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-"
	return !strings.ContainsRune(safe, r)
}

func escaped(w string) string {
	var b strings.Builder
	for len(w) > 0 {
		r, n := utf8.DecodeRuneInString(w)
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == utf8.RuneError && n == 1, plain.Hidden(r):
			// As bytes, of three digits each: \u depends on the locale, and with fewer digits
			// a digit that follows would be taken in.
			for _, c := range []byte(w[:n]) {
				fmt.Fprintf(&b, `\%03o`, c)
			}
		default:
			b.WriteString(w[:n])
		}
		w = w[n:]
	}
	return b.String()
}
