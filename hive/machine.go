package hive

import "rbeehive/store"

// event is something that has happened to a worker, or that was asked for.
type event int

const (
	evOpened  event = iota // its gate was opened: the program runs
	evListens              // it listens, and does not give the expected answer
	evServes               // it serves
	evSilent               // it was ready, and does not serve now
	evGiveUp               // it cannot become ready, or its liveness demands a new start
	evStop                 // it was asked to be stopped
	evRestart              // it was asked to be started again
	evGone                 // its process and all it had started have ended
	evLeft                 // its process has ended, and somebody can still be reached
	evDue                  // the wait before its next start is over
	evCannot               // it could not be started
	evUnsure               // whether it lives cannot be told
	evSure                 // it lives, after that could not be told
)

// after is what is to follow the end of a worker's process.
type after int

const (
	thenFail  after = iota // nothing: it has failed
	thenStop               // nothing: it was asked to stop
	thenRetry              // a new start after a wait: its restart policy says so
	thenStart              // a new start at once: that was asked for
)

// action is what is to be done about a move.
type action int

const (
	doNothing    action = iota
	doLook              // look at it until it serves
	doEnd               // end all of its processes
	doFree              // free its ports: it has ended
	doQuarantine        // keep its ports: it has ended, and somebody can still be reached
	doWait              // wait for its next start
	doStart             // start it
	doJudge             // judge it again at each audit
)

// move is what an event makes of a worker.
type move struct {
	to store.WorkerState
	do action
}

// decide is the life of a worker: what an event makes of it in a state, and what
// is to be done then. then matters to the events that end its process. ok is false
// for what cannot happen in that state. It has no effects.
func decide(state store.WorkerState, ev event, then after) (m move, ok bool) {
	switch state {
	case store.WorkerSpawning, store.WorkerRunning, store.WorkerLoading, store.WorkerReady, store.WorkerUnhealthy:
		return decideLiving(state, ev, then)
	case store.WorkerStopping:
		switch ev {
		case evStop, evRestart:
			return move{state, doNothing}, true
		case evGone:
			return decideEnd(then), true
		case evLeft:
			return move{store.WorkerFailed, doQuarantine}, true
		case evUnsure:
			return move{store.WorkerUnverified, doJudge}, true
		case evSure:
			return move{state, doEnd}, true
		}
	case store.WorkerBackoff:
		switch ev {
		case evDue, evRestart:
			return move{store.WorkerSpawning, doStart}, true
		case evStop:
			return move{store.WorkerStopped, doFree}, true
		case evCannot:
			return decideEnd(then), true
		}
	case store.WorkerUnverified:
		switch ev {
		case evSure:
			if then == thenStop {
				return move{store.WorkerStopping, doEnd}, true
			}
			return move{store.WorkerRunning, doLook}, true
		case evUnsure:
			return move{state, doJudge}, true
		case evGone:
			return decideEnd(then), true
		case evLeft:
			return move{store.WorkerFailed, doQuarantine}, true
		}
	case store.WorkerStopped, store.WorkerFailed:
		if ev == evRestart {
			return move{store.WorkerSpawning, doStart}, true
		}
	}
	return move{}, false
}

// decideLiving is decide for a worker with a process that is not being stopped.
func decideLiving(state store.WorkerState, ev event, then after) (move, bool) {
	served := state == store.WorkerReady || state == store.WorkerUnhealthy
	switch ev {
	case evOpened, evSure:
		if ev == evSure || state == store.WorkerSpawning {
			if state == store.WorkerSpawning {
				state = store.WorkerRunning
			}
			return move{state, doLook}, true
		}
	case evListens:
		if !served {
			return move{store.WorkerLoading, doLook}, true
		}
	case evServes:
		return move{store.WorkerReady, doNothing}, true
	case evSilent: // also one that was ready before it could not be judged for a while
		if state != store.WorkerSpawning {
			return move{store.WorkerUnhealthy, doLook}, true
		}
	case evGiveUp, evStop, evRestart:
		return move{store.WorkerStopping, doEnd}, true
	case evGone:
		return decideEnd(then), true
	case evLeft:
		return move{store.WorkerFailed, doQuarantine}, true
	case evCannot:
		if state == store.WorkerSpawning {
			return decideEnd(then), true
		}
	case evUnsure:
		return move{store.WorkerUnverified, doJudge}, true
	}
	return move{}, false
}

// decideEnd is what follows a process that has ended wholly.
func decideEnd(then after) move {
	switch then {
	case thenStop:
		return move{store.WorkerStopped, doFree}
	case thenRetry:
		return move{store.WorkerBackoff, doWait}
	case thenStart:
		return move{store.WorkerSpawning, doStart}
	}
	return move{store.WorkerFailed, doFree}
}
