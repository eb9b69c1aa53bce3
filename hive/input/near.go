package input

import (
	"fmt"
	"slices"
)

// DidYouMean is "; did you mean ...?" when a known name is close to one that is not known.
func DidYouMean(name string, known []string) string {
	best, bestDistance := "", 3
	// Of two that are as close the same one is suggested each time.
	for _, k := range slices.Sorted(slices.Values(known)) {
		// Of a short word hardly a letter may differ, or everything would be close to it.
		if d := distance(name, k); d < bestDistance && d < len(k)/2+1 {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
