package sockets

import "time"

// Reads returns how often the kernel's table was read for Snapshot.
func (t *Table) Reads() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reads
}

// Occupy takes the turn to read, as a slow read would, until the function it
// returns is called.
func (t *Table) Occupy() (release func()) {
	t.readSlot <- struct{}{}
	return func() { <-t.readSlot }
}

// MemoryOf is a Memory of another age.
func MemoryOf(age time.Duration) *Memory { return &Memory{age: age} }
