package lease

import (
	"time"

	"rbeehive/hive/proc"
)

// Oversleep makes a ttl lease look as after a sleep of the machine: its time is over, and
// its timer, which does not count that time, has not fired.
func (m *Manager) Oversleep(leaseID string) {
	ls := m.table[leaseID]
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.timer.Stop()
	ls.deadline = proc.BootTime() - time.Minute
}

// Expire is the timer of a ttl lease.
func (m *Manager) Expire(leaseID string) { m.table[leaseID].expire() }

// Tracked is how many leases are watched over.
func (m *Manager) Tracked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.table)
}
