package lifecycle

import "rbeehive/store"

// Event is something that has happened to a worker, or that was asked for.
type Event int

// What can happen to a worker.
const (
	Created     Event = iota // it gets its first record
	Started                  // a process is made for it again, which waits at its gate
	Opened                   // its gate was opened: the program runs
	Listens                  // it listens, and does not give the expected answer
	Serves                   // it serves
	Silent                   // it was ready, and does not serve now
	Ending                   // its process is being ended: on request, or because it is of no use
	Gone                     // its process has ended
	Unsure                   // whether it lives cannot be told
	Verified                 // its recorded process lives
	StopDropped              // it lives, and a stop of a former owner of the state file is void
	Salvaged                 // its process was found by its stamps, whatever a record says
)

// Then is what is to follow the end of a worker's process.
type Then int

// What can follow the end of a worker's process.
const (
	Fail  Then = iota // nothing: it has failed
	Stop              // nothing: it was asked to stop
	Retry             // a new start after a wait: its restart policy says so
	Start             // a new start at once: that was asked for
)

// Transition gives a worker the state that ev makes of its present one. then counts for
// Gone, and for Verified, where Stop goes on with a stop that was asked for. It returns
// false, and changes nothing, for what cannot happen in that state.
func Transition(rec *store.Worker, ev Event, then Then) bool {
	to, ok := next(rec.State, ev, then)
	if ok {
		rec.State = to
	}
	return ok
}

func next(state store.WorkerState, ev Event, then Then) (to store.WorkerState, ok bool) {
	served := state == store.WorkerReady || state == store.WorkerUnhealthy
	hasProcess := served || state == store.WorkerSpawning || state == store.WorkerRunning || state == store.WorkerLoading
	live := state != "" && !state.Ended()
	switch ev {
	case Created:
		return store.WorkerSpawning, state == ""
	case Started:
		// From stopping too: of a restart, whose process has just ended.
		return store.WorkerSpawning, state != "" && !hasProcess && state != store.WorkerUnverified
	case Opened:
		return store.WorkerRunning, state == store.WorkerSpawning
	case Listens:
		return store.WorkerLoading, hasProcess && !served
	case Serves:
		return store.WorkerReady, hasProcess
	case Silent: // also one that was ready before it could not be verified for a while
		return store.WorkerUnhealthy, hasProcess && state != store.WorkerSpawning
	case Ending: // again, if hive was restarted in the middle
		return store.WorkerStopping, hasProcess || state == store.WorkerStopping
	case Gone:
		return afterEnd(then), live
	case Unsure:
		return store.WorkerUnverified, live
	case Verified:
		return verified(state, then), live && state != store.WorkerBackoff
	case Salvaged:
		return store.WorkerRunning, true
	case StopDropped:
		return store.WorkerRunning, live && state != store.WorkerBackoff
	}
	return state, false
}

func afterEnd(then Then) store.WorkerState {
	switch then {
	case Stop:
		return store.WorkerStopped
	case Retry:
		return store.WorkerBackoff
	}
	return store.WorkerFailed
}

// verified is the state of a worker whose process was found alive. What it was shown as
// before stays, unless that says nothing about a living one.
func verified(state store.WorkerState, then Then) store.WorkerState {
	switch {
	case then == Stop:
		return store.WorkerStopping
	case state == store.WorkerSpawning || state == store.WorkerUnverified:
		return store.WorkerRunning
	}
	return state
}

// PublicState is a worker's state as the API names it.
func PublicState(s store.WorkerState) string {
	if s == store.WorkerSpawning || s == store.WorkerRunning {
		return "starting"
	}
	return string(s)
}
