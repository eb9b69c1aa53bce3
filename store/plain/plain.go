// Package plain sanitizes text from outside before it gets to a terminal or into a line of
// a log: names of processes and users, of models and files, output of programs. Any user of
// the machine can give a process a name of 15 bytes, with an escape sequence in it that
// changes a terminal, or with characters that make a text look like another one.
//
// Plain text is UTF-8 without control characters (C0, DEL, C1), without line and
// paragraph separators, and without characters that have no shape of their own: those
// of Unicode's category Cf and of Default_Ignorable_Code_Point, which are the
// bidirectional controls, the zero-width characters, tags and fillers. Letters, marks and
// symbols of every language are plain, and so are variation selectors. Caveat: the zero-width
// joiners that some languages and emoji are written with are not.
//
// Beside that it knows what a path looks like that no shell has read (Home).
//
// It uses nothing of hive's, so that every package may use it.
package plain

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s with what is not plain in it as a Go escape: \x1b, \n, \u202e, \U000e0001;
// a byte that is not UTF-8 is \xff. Backslashes stay as they are, so that it can be called
// twice, and s cannot always be reconstructed from it. It allocates nothing for a text that
// is plain.
func Text(s string) string { return text(s, math.MaxInt) }

// Clip is Text cut to at most limit bytes; "..." follows if there are more. No character
// and no escape is cut.
func Clip(s string, limit int) string { return text(s, limit) }

// Short is Clip for a value in the middle of a message: one line of 80 bytes at most.
func Short(s string) string { return Clip(s, 80) }

func text(s string, limit int) string {
	i := first(s)
	if i < 0 && len(s) <= limit {
		return s
	}
	b := make([]byte, 0, min(len(s), limit)+16)
	for i = 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		end := len(b)
		switch {
		case r == utf8.RuneError && size == 1:
			b = appendHex(append(b, `\x`...), rune(s[i]), 2)
		case Hidden(r):
			b = Escape(b, r)
		default:
			b = append(b, s[i:i+size]...)
		}
		if len(b) > limit {
			return string(append(b[:end], "..."...))
		}
		i += size
	}
	return string(b)
}

var colour = regexp.MustCompile(`\x1b\[[0-9;:]*[mK]`)

// Uncoloured returns s without the sequences that set colours and weight on a terminal, and
// those that erase a part of a line (ECMA-48, SGR and EL), which many programs print into
// their logs too.
func Uncoloured(s string) string {
	if !strings.Contains(s, "\x1b[") {
		return s
	}
	return colour.ReplaceAllString(s, "")
}

// Flaw says why s is not plain, "has control characters", as what follows the name of a
// field; empty: it is plain.
func Flaw(s string) string {
	i := first(s)
	if i < 0 {
		return ""
	}
	r, size := utf8.DecodeRuneInString(s[i:])
	switch {
	case r == utf8.RuneError && size == 1:
		return "is not valid UTF-8"
	case unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp):
		return "has control characters"
	}
	return "has " + string(Escape(nil, r)) + ", which is invisible; zero-width, bidirectional and tag characters are not allowed"
}

// homeDir is ~, ~/path and ~user/path as a shell takes them.
var homeDir = regexp.MustCompile(`^~([A-Za-z_][A-Za-z0-9._-]*)?(/|$)`)

// Home says why s is not the path that it is meant to be, as Flaw does: it is one from a
// home directory as people write it for a shell, and no shell has read it. Empty: it is not.
// It is not replaced: whose home is meant the daemon cannot know.
func Home(s string) string {
	if !homeDir.MatchString(s) {
		return ""
	}
	return "begins with '~', which means a home directory only to a shell, and only without quotes and at the beginning of a word; write the path out"
}

// first is where s is not plain; below 0: it is.
func first(s string) int {
	for i := 0; i < len(s); {
		if 0x20 <= s[i] && s[i] < 0x7f {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || Hidden(r) {
			return i
		}
		i += size
	}
	return -1
}

// Hidden reports whether a character is not plain: it has no shape, or changes a
// terminal or the text around it.
func Hidden(r rune) bool {
	switch {
	case r < 0x20, 0x7f <= r && r < 0xa0:
		return true
	case r < 0xa0:
		return false
	}
	return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point) &&
		!unicode.Is(unicode.Prepended_Concatenation_Mark, r) // Arabic signs around a number, which are seen
}

// Escape appends the escape of a character, whatever it is.
func Escape(b []byte, r rune) []byte {
	switch i := strings.IndexRune("\n\r\t", r); {
	case i >= 0:
		return append(b, '\\', "nrt"[i])
	case r < utf8.RuneSelf:
		return appendHex(append(b, `\x`...), r, 2)
	case r <= 0xffff:
		return appendHex(append(b, `\u`...), r, 4)
	}
	return appendHex(append(b, `\U`...), r, 8)
}

func appendHex(b []byte, r rune, digits int) []byte {
	text := strconv.FormatInt(int64(r), 16)
	for range digits - len(text) {
		b = append(b, '0')
	}
	return append(b, text...)
}
