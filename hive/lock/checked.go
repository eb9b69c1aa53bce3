//go:build lockrank

package lock

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"sync"
)

// Checked says that this build checks the order of locks.
const Checked = true

// held are the ranks that each goroutine holds, by its number, in the order of taking.
var (
	heldMu sync.Mutex
	held   = map[uint64][]rank{}
)

// acquire is called before a mutex is waited for, so that an inversion panics also in
// runs in which it would not have deadlocked.
func acquire[R Rank]() {
	var kind R
	r, id := kind.rank(), goroutine()
	heldMu.Lock()
	defer heldMu.Unlock()
	for _, other := range held[id] {
		if other.at >= r.at {
			panic(fmt.Sprintf("lock order: %s is taken while %s is held (docs/locks.md)", r.name, other.name))
		}
	}
	held[id] = append(held[id], r)
}

// release allows any order: a mutex is often freed before one that was taken earlier. It
// may be another goroutine that frees it than took it only if that one holds nothing else.
func release[R Rank]() {
	var kind R
	r, id := kind.rank(), goroutine()
	heldMu.Lock()
	defer heldMu.Unlock()
	list := held[id]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].at == r.at {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if held[id] = list; len(list) == 0 {
		delete(held, id) // goroutines come and go by the thousand
	}
}

// MayCommit panics if the caller holds a mutex that must not be held over a commit:
// whoever reads a table would wait for the disk.
func MayCommit() {
	heldMu.Lock()
	defer heldMu.Unlock()
	for _, r := range held[goroutine()] {
		if r.at >= (Leases{}).rank().at {
			panic(fmt.Sprintf("lock order: a commit while %s is held (docs/locks.md)", r.name))
		}
	}
}

// goroutine is the number of the calling goroutine, which only its stack trace tells.
func goroutine() uint64 {
	var buf [64]byte
	line := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	n, err := strconv.ParseUint(string(line[:bytes.IndexByte(line, ' ')]), 10, 64)
	if err != nil {
		panic("lock: no goroutine number in a stack trace: " + err.Error())
	}
	return n
}
