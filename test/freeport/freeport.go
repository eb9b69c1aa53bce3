// Package freeport finds TCP ports for tests. Nobody may assume that 8080 is
// free, and tests run side by side, in one process and in several.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// Where to look: above the range of a hive with its defaults, and below the
// ports that the kernel gives to outgoing connections (ip_local_port_range).
const first, last = 10000, 32000

// position moves on with each call, so that callers in one process never get the
// same ports; it begins anywhere, so that those in two hardly ever do.
var (
	begin    = rand.Int64N(last - first)
	position atomic.Int64
)

// Range returns the first of n consecutive ports that nobody has.
func Range(n int) (int, error) {
	for range 1000 {
		at := first + int((begin+position.Add(int64(n))-int64(n))%(last-first))
		if at+n <= last && AllFree(at, n) {
			return at, nil
		}
	}
	return 0, fmt.Errorf("no %d consecutive free ports between %d and %d", n, first, last)
}

// AllFree reports whether nobody listens on any of n ports from at.
func AllFree(at, n int) bool {
	for port := at; port < at+n; port++ {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
