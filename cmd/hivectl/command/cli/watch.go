package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
)

// watchInterval is how often a watched list is asked for, if Env says nothing.
const watchInterval = time.Second

// Control sequences of a terminal (ECMA-48), and xterm's alternate screen: what was
// on the terminal before comes back at the end.
const (
	enterScreen = "\x1b[?1049h"
	leaveScreen = "\x1b[?1049l"
	cursorHome  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// watchList shows a list, and again when it has changed, until ctx is done, which is no
// error. A daemon that goes away is waited for.
func (a *App) watchList(ctx context.Context, l Listing, fetch func(context.Context) (Listing, error)) (err error) {
	show, soiled := (&changes{app: a}).show, func() {}
	if a.ForPeople() && a.Env.Width > 0 && a.Env.Getenv("TERM") != "dumb" {
		s := &screen{app: a}
		// Else the terminal would stay on the alternate screen, without what was there before.
		defer func() { err = errors.Join(err, s.leave()) }()
		show, soiled = s.show, func() { s.shown = "" }
	}
	ticker := time.NewTicker(cmp.Or(a.Env.WatchInterval, watchInterval))
	defer ticker.Stop()
	for {
		if err := show(l); err != nil {
			return err
		}
		// While the daemon is away the last list stays as it is.
		for away := true; away; {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			next, err := fetch(ctx)
			switch {
			case err == nil:
				a.Answered()
				l, away = next, false
			// Ctrl-C in the middle of a request: its error is no outage.
			case ctx.Err() != nil:
				return nil
			case client.Away(err):
				a.NoticeWait(err) // a line below the table, until the next one is drawn
				soiled()
			default:
				return err
			}
		}
	}
}

// screen draws a list on a terminal, over what it drew before.
type screen struct {
	app   *App
	shown string // what is on the screen; empty: nothing, or something else too
	table string // the last one, complete
}

func (s *screen) show(l Listing) error {
	height := 0
	if s.app.Env.Size != nil {
		if columns, rows := s.app.Env.Size(); columns > 0 { // it may have been resized
			s.app.Env.Width, height = columns, rows
		}
	}
	var table strings.Builder
	if err := s.app.Table(&table, l.Columns, l.Rows); err != nil {
		return err
	}
	begin := ""
	if s.table == "" {
		begin = enterScreen
	}
	s.table = table.String()
	text := topOf(s.table, height)
	// Nothing is written then, and what somebody has selected on the terminal stays so.
	if text == s.shown {
		return nil
	}
	s.shown = text
	// Written over what is there: a screen that is cleared first flickers.
	_, err := io.WriteString(s.app.Stdout.Raw(), begin+cursorHome+strings.ReplaceAll(text, "\n", clearLine+"\n")+clearBelow)
	return err
}

// topOf is as much of a table as fits on a screen, leaving a line for a notice, and the
// number of rows that do not; height 0: all of it.
func topOf(table string, height int) string {
	lines := strings.SplitAfter(strings.TrimSuffix(table, "\n"), "\n")
	// The other line is the cursor's: behind a last line end it would scroll the first row away.
	if room := height - 2; height > 0 && len(lines) > max(room, 1) {
		room = max(room-1, 1)
		return strings.Join(lines[:room], "") + fmt.Sprintf("%d more\n", len(lines)-room)
	}
	return table
}

// leave restores what was on the terminal before, and prints the last table below it.
func (s *screen) leave() error {
	if s.table == "" {
		return nil
	}
	_, err := io.WriteString(s.app.Stdout.Raw(), leaveScreen+s.table)
	return err
}

// changes prints a list, and then what changes in it, as lines that programs read.
type changes struct {
	app   *App
	raw   string
	last  map[string]entry // by id
	order []string
	names []string // of the columns
	width []int
}

// entry is a row and what the API returned for it.
type entry struct {
	raw   string
	cells []string
}

// show prints what has changed: with -o the whole list, with -q ids, else rows.
func (c *changes) show(l Listing) error {
	if c.app.Output != OutputTable {
		return c.document(l.Raw)
	}
	now := map[string]entry{}
	var lines []string
	// Before any row, which is padded to the widths that this finds.
	lines = c.layout(lines, l)
	for i, id := range l.IDs {
		now[id] = entry{raw: string(l.Items[i]), cells: l.Rows[i]}
		// Not by the cells: the age in them is another one each second.
		if c.last[id].raw == now[id].raw {
			continue
		}
		if c.app.Quiet {
			lines = append(lines, id)
		} else {
			lines = append(lines, c.line(l.Rows[i]))
		}
	}
	for _, id := range c.order {
		// In a list that is cut off a missing row need not be gone.
		if _, there := now[id]; !there && !c.app.Quiet && l.Next == "" {
			lines = append(lines, c.line(c.gone(c.last[id].cells)))
		}
	}
	c.last, c.order = now, l.IDs
	if c.app.Quiet {
		return output.Lines(c.app.Env.Stdout, lines)
	}
	return output.Lines(c.app.Stdout.People(), lines)
}

// document prints the response of the API if it has changed.
func (c *changes) document(raw json.RawMessage) error {
	if string(raw) == c.raw {
		return nil
	}
	c.raw = string(raw)
	return c.app.PrintEvent(raw)
}

// layout makes the columns wide enough, and prints a header where there is none or
// another one.
func (c *changes) layout(lines []string, l Listing) []string {
	var names, header []string
	for _, col := range l.Columns {
		names, header = append(names, col.Name), append(header, strings.ToUpper(col.Name))
	}
	another := !slices.Equal(names, c.names)
	if another {
		c.names, c.width = names, make([]int, len(names))
	}
	for _, r := range append([][]string{header}, l.Rows...) {
		for i, cell := range r {
			// Columns only grow: the lines before are printed and cannot be moved.
			c.width[i] = max(c.width[i], utf8.RuneCountInString(cell))
		}
	}
	if another && !c.app.Quiet {
		lines = append(lines, c.line(header))
	}
	return lines
}

func (c *changes) line(cells []string) string {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell)
		// A row that is gone may have had more columns than the table has now.
		if i < len(c.width) {
			b.WriteString(strings.Repeat(" ", max(c.width[i]-utf8.RuneCountInString(cell), 0)+output.Gap))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// gone is the row of something that is not in the list any more.
func (c *changes) gone(cells []string) []string {
	cells = slices.Clone(cells)
	// at is of the present columns, and the row may be of others.
	if at := slices.Index(c.names, "state"); at >= 0 && at < len(cells) {
		cells[at] = "gone"
	}
	return cells
}
