package main

import (
	"fmt"
	"html"
	"os"
	"strings"
	"time"
)

// The drawing, in pixels: a line for each row, with its bar on a scale on which the target
// is always at the same place.
const (
	lineHeight = 22
	textWidth  = 520
	targetAt   = 160 // from where bars begin
	barsWidth  = 320
	valueWidth = 200
)

// colours of a bar by its verdict.
var colours = map[string]string{"met": "#3a7d44", "MISSED": "#b3261e", "busy machine": "#8a8a8a"}

// draw writes the rows as an SVG; file empty: nothing.
func draw(file string, rows []row) error {
	if file == "" {
		return nil
	}
	var b strings.Builder
	height := lineHeight * (len(rows) + 2)
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n",
		textWidth+barsWidth+valueWidth, height)
	b.WriteString("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n")
	line := func(n int) int { return lineHeight*n + 15 }
	fmt.Fprintf(&b, "<text x=\"8\" y=\"%d\" font-weight=\"bold\">make bench, %s: each value beside its target (the line)</text>\n", line(0), time.Now().Format(time.DateOnly))
	for n, r := range rows {
		length := r.got / r.limit * targetAt
		more := ""
		if length > barsWidth {
			length, more = barsWidth, " (longer)"
		}
		fmt.Fprintf(&b, "<text x=\"8\" y=\"%d\">%s</text>\n", line(n+1), html.EscapeString(r.what))
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%.0f\" height=\"12\" fill=\"%s\"/>\n", textWidth, line(n+1)-11, max(length, 1), colours[r.verdict])
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\">%.4g %s, %s%s</text>\n", textWidth+barsWidth+6, line(n+1), r.got, html.EscapeString(r.unit), r.bound(), more)
	}
	fmt.Fprintf(&b, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"black\"/>\n</svg>\n",
		textWidth+targetAt, lineHeight, textWidth+targetAt, height-lineHeight)
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
