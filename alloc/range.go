package alloc

import (
	"fmt"
	"strconv"
	"strings"
)

// Range is an inclusive range of ports. The zero value is empty.
type Range struct{ First, Last uint16 }

// ParseRange reads "8080-9999" or "8080". The error wraps ErrBadRange.
func ParseRange(s string) (Range, error) {
	first, last, isRange := strings.Cut(strings.TrimSpace(s), "-")
	if !isRange {
		last = first
	}
	a, errA := parsePort(first)
	b, errB := parsePort(last)
	if errA != nil || errB != nil {
		return Range{}, fmt.Errorf("%w: %q: want a port (1-65535) or two with a - between them", ErrBadRange, s)
	}
	r := Range{First: a, Last: b}
	if r.Len() == 0 {
		return Range{}, fmt.Errorf("%w: %q: the first port is above the last", ErrBadRange, s)
	}
	return r, nil
}

// MarshalText writes a range as String does.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a range as ParseRange does.
func (r *Range) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRange(string(text))
	return err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, strconv.ErrRange
	}
	return uint16(n), nil
}

// String returns the range as ParseRange reads it: one port alone, or first-last.
func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Len returns the number of ports; 0 if First is 0 or above Last.
func (r Range) Len() int {
	if r.First == 0 || r.First > r.Last {
		return 0
	}
	return int(r.Last) - int(r.First) + 1
}

// Contains reports whether port is in the range.
func (r Range) Contains(port uint16) bool {
	return r.Len() > 0 && r.First <= port && port <= r.Last
}

// consecutive is n ports from first on; n is at least 1, and the last at most 65535.
func consecutive(first uint16, n int) Range { return Range{first, first + uint16(n-1)} }

// ports returns all ports of the range, ascending.
func (r Range) ports() []uint16 {
	out := make([]uint16, 0, r.Len())
	for p := int(r.First); r.Len() > 0 && p <= int(r.Last); p++ {
		out = append(out, uint16(p))
	}
	return out
}
