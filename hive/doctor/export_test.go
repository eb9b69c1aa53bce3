package doctor

import "rbeehive/alloc"

// PortSetOf writes the set of the ports of ranges.
func PortSetOf(ranges ...alloc.Range) string {
	var s portSet
	for _, r := range ranges {
		s.add(r)
	}
	return s.String()
}
