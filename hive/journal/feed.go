package journal

import "rbeehive/hive/lock"

// everything is the topic of those who wait for events of any kind; no job has
// this id.
const everything = ""

// feed wakes those who wait for events of a job, or for any. It carries no
// events: a listener reads them from the store, so a slow one delays nobody and a
// missed wake-up loses nothing.
type feed struct {
	mu     lock.Ranked[lock.Feed]
	topics map[string]*topic
}

type topic struct {
	wake      chan struct{}
	listeners int
}

// join returns a channel that is closed at the next wake of id. Each join is
// followed by one leave.
func (f *feed) join(id string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[id]
	if t == nil {
		t = &topic{wake: make(chan struct{})}
		f.topics[id] = t
	}
	t.listeners++
	return t.wake
}

func (f *feed) leave(id string, ch <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[id]
	if t == nil || t.wake != ch {
		return // woken since: the topic went with its wake
	}
	if t.listeners--; t.listeners == 0 {
		delete(f.topics, id)
	}
}

func (f *feed) wake(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if t := f.topics[id]; t != nil {
			// The topic goes with it: who wants to know more joins again, and without listeners it costs nothing.
			close(t.wake)
			delete(f.topics, id)
		}
	}
}
