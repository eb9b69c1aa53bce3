package setting

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// Size is a number of bytes.
type Size int64

// sizeUnits is what a size may be given in, the ones it is shown in first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"B", 1},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
}

// String writes a size in the largest unit of which it is a whole number.
func (s Size) String() string {
	for _, u := range sizeUnits {
		// 0 is a whole number of every unit, and would be 0TiB.
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

var sizeRE = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)$`)

// ParseSize wants a unit, as ParseDuration does: 64 may be meant as bytes or as
// megabytes, and either guess is wrong for somebody.
func ParseSize(text string) (Size, error) {
	if m := sizeRE.FindStringSubmatch(text); m != nil {
		for _, u := range sizeUnits {
			if u.name != m[2] {
				continue
			}
			// A fraction, since 1.5GiB is how people say it; the product is rounded to bytes.
			n, err := strconv.ParseFloat(m[1], 64)
			if n *= float64(u.bytes); err != nil || n >= math.MaxInt64 {
				return 0, fmt.Errorf("%q: expected at most 8388607TiB", text)
			}
			return Size(math.Round(n)), nil
		}
	}
	return 0, fmt.Errorf("%q: expected a size with a unit (B, KiB, MiB, GiB, TiB or KB, MB, GB, TB), as in 512KiB, 64MiB or 2GiB", text)
}
