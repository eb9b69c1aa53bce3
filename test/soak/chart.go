package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// The drawing: panels side by side, each with a plot in it.
const (
	columns     = 4
	panelWidth  = 260
	panelHeight = 170
	headHeight  = 62
	plotLeft    = 46 // within a panel
	plotTop     = 26
	plotWidth   = panelWidth - plotLeft - 14
	plotHeight  = panelHeight - plotTop - 34
)

// draw writes the drawing of what was seen, if one is wanted.
func (r *run) draw(o observations, opts options) error {
	if opts.svg == "" || len(o.looks) == 0 {
		return nil
	}
	title := fmt.Sprintf("One hive with %d workers under a load that does not change, for %s", opts.workers, plainDuration(o.at[len(o.at)-1]))
	file, err := os.Create(opts.svg)
	if err != nil {
		return err
	}
	drawTo(file, o, title, r.tally.String())
	return file.Close()
}

// drawTo draws one panel for each series. Nothing in it says on which machine it was.
func drawTo(out io.Writer, o observations, title, what string) {
	rows := (len(allSeries) + columns - 1) / columns
	width, height := columns*panelWidth, headHeight+rows*panelHeight
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="10" fill="#333">`+"\n",
		width, height, width, height)
	fmt.Fprintf(out, "<title>%s</title>\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", escaped(title), width, height)
	fmt.Fprintf(out, "<text x=\"10\" y=\"20\" font-size=\"14\">%s</text>\n", escaped(title))
	fmt.Fprintf(out, "<text x=\"%d\" y=\"20\" text-anchor=\"end\">grey: the warm-up; red: the medians that are compared</text>\n", width-10)
	for n, line := range wrapped(what, 190) {
		fmt.Fprintf(out, "<text x=\"10\" y=\"%d\">%s</text>\n", 36+12*n, escaped(line))
	}
	for n, s := range allSeries {
		panel{o, s, n % columns * panelWidth, headHeight + n/columns*panelHeight}.draw(out)
	}
	fmt.Fprintln(out, "</svg>")
}

// panel is the drawing of one series.
type panel struct {
	o    observations
	s    series
	x, y int
}

func (p panel) draw(out io.Writer) {
	fmt.Fprintf(out, "<g transform=\"translate(%d %d)\">\n", p.x, p.y)
	defer fmt.Fprintln(out, "</g>")
	title := p.s.title
	if p.s.unit != "" {
		title += ", " + p.s.unit
	}
	fmt.Fprintf(out, "<text x=\"%d\" y=\"%d\" font-size=\"11\">%s</text>\n", plotLeft, plotTop-8, escaped(title))
	largest := 0.
	for _, l := range p.o.looks {
		if v := p.s.of(l); !math.IsNaN(v) {
			largest = max(largest, v)
		}
	}
	step := niceStep(largest / 4)
	top := math.Ceil(largest/step) * step
	if top == 0 {
		top = step
	}
	y := func(v float64) float64 { return plotTop + plotHeight*(1-v/top) }
	x := func(at time.Duration) float64 { return plotLeft + plotWidth*at.Seconds()/p.o.end.Seconds() }
	fmt.Fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"#eee\"/>\n", plotLeft, plotTop, x(p.o.warmUp)-plotLeft, plotHeight)
	for v := 0.; v <= top*1.001; v += step {
		fmt.Fprintf(out, "<path d=\"M%d %.1fh%d\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			plotLeft, y(v), plotWidth, plotLeft-4, y(v)+3, number(v, step))
	}
	unit, name := timeUnit(p.o.end)
	last := p.o.end.Seconds() / unit.Seconds()
	for v, step := 0., niceStep(last/4); v <= last*1.001; v += step {
		fmt.Fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", plotLeft+plotWidth*v/last, plotTop+plotHeight+13, number(v, step))
	}
	fmt.Fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", plotLeft+plotWidth/2, plotTop+plotHeight+25, name)
	p.curve(out, x, y)
}

// curve draws the samples, and the medians that were compared.
func (p panel) curve(out io.Writer, x func(time.Duration) float64, y func(float64) float64) {
	var path strings.Builder
	letter := "M"
	for i, l := range p.o.looks {
		v := p.s.of(l)
		if math.IsNaN(v) {
			continue
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", letter, x(p.o.at[i]), y(v))
		letter = "L"
	}
	fmt.Fprintf(out, "<path d=\"%s\" fill=\"none\" stroke=\"#27c\"/>\n", path.String())
	_, middle, last := p.o.medians(p.s)
	half := (p.o.warmUp + p.o.end) / 2
	for _, m := range []struct {
		from, to time.Duration
		at       float64
	}{{p.o.warmUp, half, middle}, {half, p.o.end, last}} {
		if !math.IsNaN(m.at) {
			fmt.Fprintf(out, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"#c30\" stroke-width=\"1.5\"/>\n", x(m.from), y(m.at), x(m.to), y(m.at))
		}
	}
}

// niceStep is the smallest of 1, 2, 5, 10, 20, ... that is not below v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= v {
			return f * power
		}
	}
	return 10 * power
}

// number is a number on an axis, with as many decimals as its steps have.
func number(v, step float64) string {
	return strconv.FormatFloat(v, 'f', max(0, -int(math.Floor(math.Log10(step)))), 64)
}

// timeUnit is in what a time of this length is shown.
func timeUnit(d time.Duration) (time.Duration, string) {
	switch {
	case d < 5*time.Minute:
		return time.Second, "seconds"
	case d < 3*time.Hour:
		return time.Minute, "minutes"
	}
	return time.Hour, "hours"
}

// plainDuration is a length of time in words. The last look is a little before the end.
func plainDuration(d time.Duration) string {
	d = d.Round(10 * time.Second)
	unit, name := timeUnit(d)
	return fmt.Sprintf("%.0f %s", d.Seconds()/unit.Seconds(), name)
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder has no errors
	return b.String()
}

// wrapped breaks a text into lines of at most so many bytes, between words.
func wrapped(text string, most int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > most && line != "" {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
