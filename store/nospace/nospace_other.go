//go:build !linux

package nospace

import "math"

// In does not limit anything here: hive runs on Linux only.
func In(string) (Left, error) { return Left{math.MaxInt64, math.MaxInt64}, nil }
