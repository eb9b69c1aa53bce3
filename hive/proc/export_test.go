package proc

// InheritRules is the table of what workers inherit, a row each: the names, and what
// becomes of them in the words of docs/configuration-reference.md.
func InheritRules() (rows [][]string) {
	words := map[inheritMode]string{inheritAlways: "yes", inheritByName: "by name", inheritNever: "no"}
	for _, h := range inheritRules {
		rows = append(rows, append(append([]string{}, h.names...), words[h.own], words[h.other]))
	}
	return rows
}
