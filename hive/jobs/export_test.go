package jobs

// How many answered queries stay readable, by their number and by their bytes.
const (
	MaxQueries    = maxQueries
	MaxQueryBytes = maxQueryBytes
	MinQueries    = minQueries
)

// Active is how many jobs have not ended.
func (q *Queue) Active() int { return int(q.active.Load()) }

// Surplus is how many jobs beyond those that are kept have a record.
func (q *Queue) Surplus() int { return q.surplusCount() }
