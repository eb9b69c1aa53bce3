package output

import (
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// The colours of Paint: SGR parameters (ECMA-48 8.3.117).
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
)

// Table prints rows under a header, on a terminal of this width; 0: it is none. On a
// terminal a row that is too long is cut, not wrapped: a wrapped table cannot be read.
// Piped, nothing is cut.
func Table(w io.Writer, width int, cols []Column, rows [][]string) error {
	t := table.NewWriter()
	style := table.Style{Name: "hivectl", Box: table.StyleBoxDefault}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", strings.Repeat(" ", Gap)
	style.Format.Header = text.FormatUpper
	if width > 0 {
		cols, rows = fit(cols, rows, width)
	}
	t.SetStyle(style)
	// The padding of the last column would wrap a row that just fits.
	t.SuppressTrailingSpaces()
	var header []string
	for _, c := range cols {
		header = append(header, c.Name)
	}
	t.AppendHeader(row(header))
	for _, r := range rows {
		t.AppendRow(row(r))
	}
	lines := strings.Split(t.Render(), "\n")
	// The last resort, where columns could neither be cut nor left out.
	for i, line := range lines {
		if width > 0 && text.StringWidthWithoutEscSequences(line) > width {
			lines[i] = text.Snip(line, width, "~")
		}
	}
	return Lines(w, lines)
}

// Fields prints name and value pairs, one per line, the values aligned.
func Fields(w io.Writer, fields [][2]string) error {
	longest := 0
	for _, f := range fields {
		longest = max(longest, len(f[0]))
	}
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f[0])
		b.WriteString(strings.Repeat(" ", longest-len(f[0])+2))
		b.WriteString(f[1])
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func row(cells []string) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = c
	}
	return r
}

// Paint colours s, whether or not there are colours.
func Paint(colour, s string) string { return "\x1b[" + colour + "m" + s + uncolour }

// uncolour ends a colour.
const uncolour = "\x1b[0m"

// isPaint reports whether a sequence is one of Paint's.
func isPaint(sequence []byte) bool {
	switch string(sequence) {
	case "\x1b[" + Red + "m", "\x1b[" + Green + "m", "\x1b[" + Yellow + "m", uncolour:
		return true
	}
	return false
}
