package jobs

// MaxQueries is how many answered queries stay readable.
const MaxQueries = maxQueries

// Active is how many jobs have not ended.
func (q *Queue) Active() int { return int(q.active.Load()) }

// Surplus is how many jobs beyond those that are kept have a record.
func (q *Queue) Surplus() int { return q.surplusCount() }
