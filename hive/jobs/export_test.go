package jobs

import "time"

// How many answered queries stay readable, by their number and by their bytes.
const (
	MaxQueries    = maxQueries
	MaxQueryBytes = maxQueryBytes
	MinQueries    = minQueries
)

// SetJoinTime is for a queue that has no job yet.
func (q *Queue) SetJoinTime(d time.Duration) { q.joinTime = d }

// Active is how many jobs have not ended.
func (q *Queue) Active() int { return int(q.active.Load()) }

// Surplus is how many jobs beyond those that are kept have a record.
func (q *Queue) Surplus() int { return q.surplusCount() }
