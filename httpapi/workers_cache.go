package httpapi

import (
	"bytes"
	"slices"
	"sync"

	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// workersCache is the list of all workers as it was answered last: while no worker has
// changed it is not encoded again. With 1,000 workers that is all that an answer costs.
type workersCache struct {
	mu   sync.Mutex
	of   []store.Worker // a list of hive.Hive.Workers, which is another one after each change
	text []byte         // a JSON array
}

// page encodes a page with all workers, whose list of them is empty so far. The rest of it
// is short, and changes without them.
func (c *workersCache) page(workers []store.Worker, page wire.Workers) ([]byte, error) {
	rest, err := encodeJSON(page)
	if err != nil || len(workers) == 0 {
		return rest, err
	}
	list, err := c.list(workers)
	if err != nil {
		return nil, err
	}
	before, after, _ := bytes.Cut(rest, []byte("[]")) // workers is the first field of the page
	return slices.Concat(before, list, after), nil
}

func (c *workersCache) list(workers []store.Worker) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The array, not what is in it: the cache keeps it, so no other can come to lie there.
	if len(c.of) == len(workers) && &c.of[0] == &workers[0] {
		return c.text, nil
	}
	text, err := encodeJSON(workerShapes(workers))
	if err != nil {
		return nil, err
	}
	c.of, c.text = workers, bytes.TrimSpace(text)
	return c.text, nil
}

func workerShapes(workers []store.Worker) []wire.Worker {
	list := make([]wire.Worker, 0, len(workers))
	for _, wkr := range workers {
		list = append(list, workerShape(wkr))
	}
	return list
}
