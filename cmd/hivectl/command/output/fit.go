package output

import (
	"slices"

	"github.com/jedib0t/go-pretty/v6/text"
)

// Column is one column of a table, and what may become of it on a terminal that
// is too narrow: free text is cut first, then columns are dropped.
type Column struct {
	Name string
	// least is how short its cells may be cut, in columns of the terminal; 0: not at all.
	Least int
	// drop orders the columns that may be dropped, the highest first; 0: it stays.
	Drop int
}

// Gap is what stands between two columns.
const Gap = 2

// fit returns a table that is at most width wide, if cutting and dropping can do
// that. Rows are not changed in place.
func fit(cols []Column, rows [][]string, width int) ([]Column, [][]string) {
	widths := make([]int, len(cols))
	for i, c := range cols {
		widths[i] = text.StringWidthWithoutEscSequences(c.Name)
		for _, r := range rows {
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(r[i]))
		}
	}
	// A text that is cut still says something, so a column goes only when cutting cannot do.
	for excess(widths, width) > 0 && !cut(cols, widths, width) {
		i := mostDispensable(cols)
		// The rest stays, too wide as it is: Table cuts whole lines then.
		if i < 0 {
			break
		}
		// slices.Delete shifts in place, and columns and rows are the caller's.
		cols, widths = slices.Delete(slices.Clone(cols), i, i+1), slices.Delete(widths, i, i+1)
		rows = slices.Clone(rows)
		for n, r := range rows {
			rows[n] = slices.Delete(slices.Clone(r), i, i+1)
		}
	}
	fitted := make([][]string, len(rows))
	for n, r := range rows {
		fitted[n] = slices.Clone(r)
		for i, cell := range r {
			if text.StringWidthWithoutEscSequences(cell) > widths[i] {
				fitted[n][i] = text.Snip(cell, widths[i], "~")
			}
		}
	}
	return cols, fitted
}

// excess is by how much columns of these widths are too wide.
func excess(widths []int, width int) int {
	sum := Gap * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	return sum - width
}

// cut takes from the widest columns that may be cut until all fit; false: they
// cannot, and nothing was taken.
func cut(cols []Column, widths []int, width int) bool {
	tried := slices.Clone(widths)
	for excess(tried, width) > 0 {
		widest := -1
		for i, c := range cols {
			// No cell becomes narrower than its header: without that nobody could tell what it is.
			if c.Least > 0 && tried[i] > max(c.Least, len(c.Name)) && (widest < 0 || tried[i] > tried[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		// One column of the terminal at a time, so that the widest cells come down evenly.
		tried[widest]--
	}
	copy(widths, tried)
	return true
}

// mostDispensable is the column to be dropped next; -1: none.
func mostDispensable(cols []Column) int {
	at := -1
	for i, c := range cols {
		if c.Drop > 0 && (at < 0 || c.Drop > cols[at].Drop) {
			at = i
		}
	}
	return at
}
