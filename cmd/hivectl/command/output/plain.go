package output

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"rbeehive/httpapi/wire"
	"rbeehive/store/plain"
)

// Lines writes lines in one Write; none: nothing.
func Lines(w io.Writer, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// Clean makes one line of plain text of a text from outside: line ends in it become
// spaces, or a worker could write "stopped" over our "failed".
func Clean(s string) string {
	return strings.TrimRight(plain.Text(lineEnds.Replace(s)), " ")
}

var lineEnds = strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ", "\t", " ")

// Or returns what p points to, or a dash.
func Or[T any](p *T) string {
	if p == nil {
		return "-"
	}
	return OrDash(fmt.Sprint(*p))
}

// OrDash is s as plain text, or a dash if it is empty.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return Clean(s)
}

// Clock is a time of the API in local time, for a person.
func Clock(t wire.Time) string {
	return time.Time(t).Local().Format("2006-01-02 15:04:05")
}

// Pad fills s up with blanks to a width, in characters.
func Pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}

// Wrap breaks a text at blanks into lines of at most width characters. A command
// in backquotes stays in one piece, so that it can be copied, even if its line
// becomes too long.
func Wrap(text string, width int) []string {
	lines := []string{""}
	quoted := false
	word := ""
	flush := func() {
		last := lines[len(lines)-1]
		switch {
		case last == "":
			lines[len(lines)-1] = word
		case utf8.RuneCountInString(last)+1+utf8.RuneCountInString(word) <= width:
			lines[len(lines)-1] = last + " " + word
		default:
			lines = append(lines, word)
		}
		word = ""
	}
	for part := range strings.FieldsSeq(text) {
		if word != "" {
			part = " " + part
		}
		word += part
		if quoted = quoted != (strings.Count(part, "`")%2 == 1); !quoted {
			flush()
		}
	}
	if word != "" { // a backquote that is never closed
		flush()
	}
	return lines
}
