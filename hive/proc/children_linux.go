package proc

import (
	"maps"
	"sync"
)

// children is which processes this package follows. It is a package variable because
// the children of a process belong to the process as a whole, and so does the question
// who reaps which.
var children = childSet{pids: make(map[int]int), mains: make(map[int]*Process)}

type childSet struct {
	// fork is held for reading from before a fork until the child is in pids, and
	// for writing while the reaper decides: else a child that dies at once would be
	// taken for an inherited one, and its exit code would be lost.
	fork sync.RWMutex

	mu   sync.Mutex
	pids map[int]int // how many follow it
	wake func()      // wakes the reaper; nil without one
	// mains are the main processes of workers that are followed.
	mains map[int]*Process
}

func (c *childSet) addMain(p *Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.alive() { // else it was removed, or is in a moment
		c.mains[p.id.PID] = p
	}
}

func (c *childSet) removeMain(pid int, p *Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mains[pid] == p {
		delete(c.mains, pid)
	}
}

// mainProcesses returns the main processes of workers, by PID.
func (c *childSet) mainProcesses() map[int]*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.mains)
}

func (c *childSet) add(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pids[pid]++
}

// remove wakes the reaper: waitid shows one child at a time, and the one that
// was skipped as known may have stood before others.
func (c *childSet) remove(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pids[pid]--; c.pids[pid] <= 0 {
		delete(c.pids, pid)
	}
	if c.wake != nil {
		c.wake()
	}
}

func (c *childSet) has(pid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pids[pid] > 0
}

// attach makes wake the reaper's; it returns false if there is one already.
func (c *childSet) attach(wake func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake != nil {
		return false
	}
	c.wake = wake
	return true
}

func (c *childSet) detach() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake = nil
}
