package proc

import (
	"context"
	"slices"
	"sync"

	"rbeehive/hive/proc/internal/procfs"
)

// scanQueue shares passes over /proc among the stops that go on at once. A stop needs
// several, and where the machine is so busy that a pass takes long, one for each stop would
// take longer still.
type scanQueue struct {
	turn    chan struct{} // capacity 1: full while somebody makes a pass
	mu      sync.Mutex    // nothing else is locked while it is held
	waiting []*scanRequest
}

// scans is the queue of this process.
var scans = &scanQueue{turn: make(chan struct{}, 1)}

// scanRequest is a tree that is to be looked through in a pass that has not begun yet.
type scanRequest struct {
	tree   *Tree
	proven []procKey     // members that go on proving what descends from them
	done   chan struct{} // closed behind the pass, which sets what follows
	view   *view
	err    error
}

// view is what a pass has seen of one of its trees.
type view struct {
	survey *survey // only read once the pass is over, by all who share it
	tree   int     // in survey.trees
	known  []int   // listed before the pass: a process neither there nor in found is younger
	found  []Member
}

// scan looks a tree through in a pass that begins after the call. It blocks for that pass
// and for the one that may be under way, or until ctx ends.
func (q *scanQueue) scan(ctx context.Context, t *Tree, proven []procKey) (*view, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &scanRequest{tree: t, proven: proven, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, r)
	q.mu.Unlock()
	select {
	case <-r.done:
	case q.turn <- struct{}{}:
		q.pass()
		<-q.turn
	case <-ctx.Done():
		q.withdraw(r)
		return nil, ctx.Err()
	}
	<-r.done // also by whoever made the pass: its request was in it, or in the one before
	if r.err != nil {
		return nil, r.err
	}
	return r.view, ctx.Err()
}

func (q *scanQueue) withdraw(r *scanRequest) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(other *scanRequest) bool { return other == r })
}

// pass makes one pass for all who wait. It is not given up when one of them goes: the
// others still need it.
func (q *scanQueue) pass() {
	q.mu.Lock()
	requests := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	if len(requests) == 0 {
		return
	}
	trees := make([]*Tree, len(requests))
	for i, r := range requests {
		trees[i] = r.tree
	}
	v := newSurvey(trees)
	v.others = children.mainProcesses()
	for i, r := range requests {
		for _, key := range r.proven {
			v.proven[key] = i
		}
	}
	known, err := procfs.PIDs()
	var found map[int][]Member
	if err == nil {
		found, err = v.run(context.Background())
	}
	for i, r := range requests {
		r.view, r.err = &view{survey: v, tree: i, known: known, found: found[i]}, err
		close(r.done)
	}
}
