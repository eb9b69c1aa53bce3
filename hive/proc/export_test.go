package proc

// Heirlooms is the table of what workers inherit, a row each: the names, and what
// becomes of them in the words of docs/configuration-reference.md.
func Heirlooms() (rows [][]string) {
	words := map[handing]string{handed: "yes", byName: "by name", never: "no"}
	for _, h := range heirlooms {
		rows = append(rows, append(append([]string{}, h.names...), words[h.own], words[h.other]))
	}
	return rows
}
