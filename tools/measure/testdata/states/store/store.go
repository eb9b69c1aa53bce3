package store

type State string

// Worker is the record whose field is watched, Job one with a field of the same name.
type (
	Worker struct {
		ID    string
		State State
	}
	Job struct{ State State }
)

func New() Worker { return Worker{"w", "new"} } // written
