package proc

// Ownership says whose a socket is. The zero value is OwnerUnknown.
type Ownership int

// The answers.
const (
	OwnerUnknown Ownership = iota // the system does not let us see; never act on it
	Ours                          // all of them belong to the worker
	Foreign                       // at least one belongs to somebody else
)

// String returns the answer in lower case.
func (o Ownership) String() string {
	switch o {
	case Ours:
		return "ours"
	case Foreign:
		return "foreign"
	default:
		return "unknown"
	}
}
