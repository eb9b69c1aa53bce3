package command

import (
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// SGR parameters (ECMA-48 8.3.117).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// writeTable prints rows under a header. On a terminal a row that is too long
// is cut, not wrapped: a wrapped table cannot be read. Piped, nothing is cut.
func (a *app) writeTable(w io.Writer, cols []column, rows [][]string) error {
	t := table.NewWriter()
	style := table.Style{Name: "hivectl", Box: table.StyleBoxDefault}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", strings.Repeat(" ", gap)
	style.Format.Header = text.FormatUpper
	if a.env.Width > 0 {
		cols, rows = fit(cols, rows, a.env.Width)
	}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	var header []string
	for _, c := range cols {
		header = append(header, c.name)
	}
	t.AppendHeader(row(header))
	for _, r := range rows {
		t.AppendRow(row(r))
	}
	lines := strings.Split(t.Render(), "\n")
	for i, line := range lines {
		if a.env.Width > 0 && text.StringWidthWithoutEscSequences(line) > a.env.Width {
			lines[i] = text.Snip(line, a.env.Width, "~")
		}
	}
	return writeLines(w, lines)
}

// writeFields prints name and value pairs, one per line, the values aligned.
func (a *app) writeFields(w io.Writer, fields [][2]string) error {
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

// paint colours s where there are colours.
func (a *app) paint(colour, s string) string {
	if colour == "" || !a.colours() {
		return s
	}
	return "\x1b[" + colour + "m" + s + uncolour
}

// uncolour ends a colour.
const uncolour = "\x1b[0m"

// isPaint reports whether a sequence is one of paint's.
func isPaint(sequence []byte) bool {
	switch string(sequence) {
	case "\x1b[" + red + "m", "\x1b[" + green + "m", "\x1b[" + yellow + "m", uncolour:
		return true
	}
	return false
}

// colours reports whether there are any: on a terminal, unless NO_COLOR is set
// (no-color.org).
func (a *app) colours() bool {
	return a.env.Width > 0 && a.env.Getenv("NO_COLOR") == "" && a.env.Getenv("TERM") != "dumb"
}

// state colours a state of a worker, a job or a lease. States this build does
// not know stay as they are.
func (a *app) state(s string) string {
	s = clean(s)
	switch s {
	case "ready", "succeeded", "held":
		return a.paint(green, s)
	case "failed", "unhealthy":
		return a.paint(red, s)
	case "starting", "loading", "stopping", "backoff", "unverified", "running", "queued", "releasing", "quarantined":
		return a.paint(yellow, s)
	}
	return s
}
