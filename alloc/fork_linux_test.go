package alloc_test

import (
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
)

// Hive starts processes while it probes. A child has a copy of every descriptor
// until its execve; a copy of a probe's socket would make a free port look taken.
func TestProbesAreNotInherited(t *testing.T) {
	f := setUp(t, 1)
	var over atomic.Bool
	var forks sync.WaitGroup
	for range 4 {
		forks.Go(func() {
			for !over.Load() {
				_ = exec.Command("/proc/self/exe", "-test.run=^$").Run()
			}
		})
	}
	defer forks.Wait()
	defer over.Store(true)
	for range 3000 {
		r, err := f.Acquire(t.Context(), alloc.Request{Port: f.port(0), Host: "127.0.0.1"})
		require.NoError(t, err)
		r.Abandon()
	}
}
