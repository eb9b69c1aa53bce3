package probe

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"rbeehive/store"
)

// Listener says to whom the listeners on a worker's port belong, at its own address.
type Listener int

// To whom the listeners on a worker's port can belong.
const (
	Nobody     Listener = iota // nothing listens
	Ours                       // a member of the worker
	WeaklyOurs                 // the system does not let us see, and nothing speaks against it
	Foreign                    // somebody else
	Unclear                    // the system does not let us see
)

// Result is what one probe has seen.
type Result struct {
	Listener Listener
	Holder   string        // who the foreign listener is
	Astray   string        // where the worker listens on its port, which is not its own address; empty: not looked at
	Answered bool          // the request got the expected answer
	Answer   string        // what the request got, for a person
	Same     bool          // the listeners were the same before and after the request
	Searched bool          // the worker was looked for on other ports
	WrongOn  uint16        // a port without a lease on which the worker serves; 0: none
	Progress string        // changes while the worker makes progress; empty: not looked at
	At       time.Duration // since the worker was started or adopted
}

// Serves reports whether the result shows the worker serving.
func (r Result) Serves() bool {
	return (r.Listener == Ours || r.Listener == WeaklyOurs) && r.Answered && r.Same
}

// Why says for a person why a worker that was seen so does not serve.
func (r Result) Why(rec store.Worker) string {
	switch r.Listener {
	case Nobody:
		if r.Astray != "" {
			return fmt.Sprintf("it listens on %s, not on %s", r.Astray, net.JoinHostPort(rec.Spec.Host, strconv.Itoa(int(rec.Port))))
		}
		return fmt.Sprintf("nothing listens on port %d", rec.Port)
	case Ours, WeaklyOurs:
		return r.Answer
	case Foreign:
		return fmt.Sprintf("port %d is held by %s", rec.Port, r.Holder)
	}
	return fmt.Sprintf("who listens on port %d cannot be seen", rec.Port)
}

// Verdict is what a sequence of results says about a worker.
type Verdict int

// What a sequence of results can say about a worker.
const (
	NotListening Verdict = iota // nothing listens yet
	Loading                     // it listens, and does not serve yet
	Ready                       // it serves
	TakenByOther                // a stranger serves on its port
	OnWrongPort                 // it serves on a port that it has no lease for
	Stalled                     // no progress for too long
	TimedOut                    // the total time is over
	Undecided                   // who listens cannot be seen: wait, never stop for that
)

// Tracker is what a sequence of results adds up to. The zero value has seen none.
type Tracker struct {
	Count      int // results so far
	foreign    int // results with a foreign listener in a row
	wrong      int // results on another port in a row
	progress   string
	progressAt time.Duration
	at         time.Duration // of the last result
	lost       time.Duration // in which hive did not run
}

// suspendThreshold is a gap between two results that no probe is long enough for: hive
// was stopped meanwhile (docker pause freezes a container, and the clock goes on).
// Its workers were most likely stopped with it, so such a time counts neither as a
// time without progress nor for ready.timeout.
const suspendThreshold = 3 * requestTimeout

// Evaluate decides from one more result. A stranger or a wrong port must be seen twice
// in a row: between the socket table and /proc a socket can close, and then nobody
// seems to own it.
func (t *Tracker) Evaluate(r Result, ready store.Ready) Verdict {
	if gap := r.At - t.at; t.Count > 0 && gap > suspendThreshold {
		t.lost += gap
		t.progressAt = r.At
	}
	t.at = r.At
	// Empty means not looked at, which is no sign of standing still.
	if r.Progress != "" && r.Progress != t.progress {
		t.progress, t.progressAt = r.Progress, r.At
	}
	t.Count++
	t.foreign = inRow(t.foreign, r.Listener == Foreign)
	if r.Searched || r.Listener != Nobody { // else nobody has looked at other ports this time
		t.wrong = inRow(t.wrong, r.WrongOn != 0)
	}
	switch {
	case r.Serves():
		return Ready
	case t.foreign >= 2:
		return TakenByOther
	case t.wrong >= 2:
		return OnWrongPort
	// Before the timeouts: a worker is not ended for what cannot be seen.
	case r.Listener == Unclear:
		return Undecided
	case ready.Timeout > 0 && r.At-t.lost >= ready.Timeout:
		return TimedOut
	case ready.Stall > 0 && r.At-t.progressAt >= ready.Stall:
		return Stalled
	}
	switch r.Listener {
	case Ours, WeaklyOurs:
		return Loading
	case Nobody:
		return NotListening
	}
	return Undecided
}

func inRow(n int, again bool) int {
	if again {
		return n + 1
	}
	return 0
}
