// Package freeport finds TCP ports for tests. Nobody may assume that 8080 is
// free, and tests run side by side, in one process and in several.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
)

// The range that is searched: above the range of a hive with its defaults, and below the
// ports that the kernel gives to outgoing connections (ip_local_port_range).
const first, last = 10000, 32000

// Ports are taken in blocks, each by one process at a time: a port that a test has
// chosen and does not listen on yet seems free to everybody else.
const (
	block  = 100
	blocks = (last - first) / block
	most   = 20 // blocks that one process takes a few at a time; then it begins again with its own
	few    = 4
)

// taken is what this process has of the blocks.
var taken struct {
	sync.Mutex
	runs   []run // of consecutive ports
	next   int   // the run to hand out of
	blocks int
	claims []net.Listener // held as long as the process lives
}

// run is consecutive ports from at to end; pos is the next that was not handed out.
type run struct{ at, end, pos int }

// Range returns the first of n consecutive ports that nobody has.
func Range(n int) (int, error) {
	taken.Lock()
	defer taken.Unlock()
	for range 1000 {
		r, err := room(n)
		if err != nil {
			return 0, err
		}
		at := r.pos
		r.pos += n
		if AllFree(at, n) {
			return at, nil
		}
	}
	return 0, fmt.Errorf("no %d consecutive free ports between %d and %d", n, first, last)
}

// room returns a run with n ports that were not handed out, or not lately.
func room(n int) (*run, error) {
	if taken.next < len(taken.runs) {
		if r := &taken.runs[taken.next]; r.pos+n <= r.end {
			return r, nil
		}
	}
	need := (n + block - 1) / block
	if (need > few || taken.blocks+need <= most) && claim(need) {
		taken.next = len(taken.runs) - 1
		return &taken.runs[taken.next], nil
	}
	for range taken.runs {
		taken.next = (taken.next + 1) % len(taken.runs)
		r := &taken.runs[taken.next]
		if r.pos = r.at; r.pos+n <= r.end {
			return r, nil
		}
	}
	if claim(need) {
		taken.next = len(taken.runs) - 1
		return &taken.runs[taken.next], nil
	}
	return nil, fmt.Errorf("no %d consecutive ports between %d and %d that no other test has", n, first, last)
}

// low is how many blocks, from the first, those that need few are taken from as long as
// there are some: scattered over all they would leave no long row to anybody.
const low = blocks * 6 / 10

// order lists where n blocks can begin, in the order in which they are tried: few at random
// places below low, many from the end down.
func order(n int) []int {
	at := make([]int, 0, blocks)
	if n > few {
		for b := blocks - n; b >= 0; b-- {
			at = append(at, b)
		}
		return at
	}
	at = append(at, rand.Perm(low)...)
	for b := low; b+n <= blocks; b++ {
		at = append(at, b)
	}
	return at
}

// claim takes n consecutive blocks that no process has.
func claim(n int) bool {
	for _, at := range order(n) {
		held := make([]net.Listener, 0, n)
		for b := at; b < at+n; b++ {
			l, ok := hold(b)
			if !ok {
				break
			}
			held = append(held, l)
		}
		if len(held) == n {
			taken.claims = append(taken.claims, held...)
			if n <= few {
				taken.blocks += n
			}
			from := first + at*block
			taken.runs = append(taken.runs, run{from, from + n*block, from})
			return true
		}
		for _, l := range held {
			_ = l.Close()
		}
	}
	return false
}

// hold takes one block: only one process can have an abstract socket (unix(7)), and it
// goes with the process. Other systems than Linux have none, and chance must do.
func hold(b int) (net.Listener, bool) {
	if runtime.GOOS != "linux" {
		return nopListener{}, true
	}
	l, err := net.Listen("unix", "@hive-test-ports-"+strconv.Itoa(first+b*block))
	return l, err == nil
}

type nopListener struct{ net.Listener }

// Close does nothing.
func (nopListener) Close() error { return nil }

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
