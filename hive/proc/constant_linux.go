package proc

import "sync"

// constant is something about this process or this boot that does not change
// while it runs, and that is asked for with each of thousands of workers. Only a
// successful read is kept.
type constant[T any] struct {
	mu    sync.Mutex
	known bool
	value T
}

func (c *constant[T]) get(read func() (T, error)) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known {
		return c.value, nil
	}
	v, err := read()
	if err == nil {
		c.value, c.known = v, true
	}
	return v, err
}

// What belongs to the process as a whole.
var (
	bootID       constant[string]
	ownNamespace constant[uint64]
	cgroup2      constant[hierarchy]
	overflowUID  constant[uint32]
)
