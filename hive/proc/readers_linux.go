package proc

import (
	"sync"
	"sync/atomic"
)

// maxReaders is how many goroutines read /proc at a time. Each read may hold a
// thread, and threads are never given back: one goroutine per process left a
// daemon with as many threads as it had workers.
const maxReaders = 4

// readerSlots holds a token for each of them. It is shared by the whole process, as its
// threads are: many workers are surveyed at the same time.
var readerSlots = make(chan struct{}, maxReaders)

// forEach runs fn for 0..n-1 on at most maxReaders goroutines, counted over all
// callers, and waits for them. fn must not call forEach.
func forEach(n int, fn func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(maxReaders, n) {
		wg.Go(func() {
			readerSlots <- struct{}{}
			defer func() { <-readerSlots }()
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				fn(int(i))
			}
		})
	}
	wg.Wait()
}
