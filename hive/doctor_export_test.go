package hive

// For tests of what Doctor makes of facts.
type (
	Facts       = facts
	Examination = examination
	Backups     = backups
	Dated       = dated
	Fact[T any] = fact[T]
)

// Judge makes every check.
func Judge(f *Facts) []Checkup { return f.judge() }

// Examined reports whether the full check after the start is over.
func (h *Hive) Examined() bool { return h.examined.Load() != nil }
