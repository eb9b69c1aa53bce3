package proc

// Verdict is what can be said about a recorded process. The zero value is Unknown.
type Verdict int

// The verdicts.
const (
	Unknown Verdict = iota // cannot be decided: keep its lease, do not signal it
	Alive                  // it runs, and it is the one that was recorded
	Dead                   // it does not run, whoever has its PID now
)

// String returns the verdict in lower case.
func (v Verdict) String() string {
	switch v {
	case Alive:
		return "alive"
	case Dead:
		return "dead"
	default:
		return "unknown"
	}
}
