package doctor

import (
	"strings"

	"rbeehive/alloc"
)

// portSet has a bit for every port.
type portSet [1 << 16]bool

func (s *portSet) add(r alloc.Range) {
	for p := int(r.First); r.Len() > 0 && p <= int(r.Last); p++ {
		s[p] = true
	}
}

// String writes the set as ip_local_reserved_ports has it: "8080,8100-8199".
func (s *portSet) String() string {
	var parts []string
	for p := 1; p < len(s); p++ {
		if !s[p] {
			continue
		}
		r := alloc.Range{First: uint16(p), Last: uint16(p)}
		for ; p+1 < len(s) && s[p+1]; p++ {
			r.Last++
		}
		parts = append(parts, r.String())
	}
	return strings.Join(parts, ",")
}
