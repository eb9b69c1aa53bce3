package lock_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/lock"
)

func TestARankedMutexExcludes(t *testing.T) {
	var mu lock.Ranked[lock.Jobs]
	n := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				mu.Lock()
				n++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, 8000, n)
}
