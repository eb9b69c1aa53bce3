package lifecycle

import (
	"time"

	"rbeehive/store"
)

// NextStart decides whether a worker that has ended by itself at now is started again,
// and after which wait. before are the times of its earlier ends by itself; spread
// is a random number from 0 to 1, so that workers that fell together do not all
// come back at the same moment. It has no effects.
//
// An exit with 0 is a failure unless the worker had been ready: programs such as
// sd-server exit so when their port is taken.
func NextStart(p store.Restart, before []time.Time, wasReady bool, exit *store.Exit, now time.Time, spread float64) (wait time.Duration, again bool) {
	switch p.Policy {
	case store.RestartAlways:
	case store.RestartOnFailure:
		if wasReady && exit != nil && exit.Code != nil && *exit.Code == 0 {
			return 0, false
		}
	default:
		return 0, false
	}
	// For always, too: a program that cannot run would be started for ever.
	n := len(Recent(before, p.Window, now))
	if n >= p.Max {
		return 0, false
	}
	return Wait(p, n, spread), true
}

// Wait is how long a worker waits for its next start after n others, with spread as for
// NextStart.
func Wait(p store.Restart, n int, spread float64) time.Duration {
	wait := p.Backoff
	for range n {
		if wait >= p.MaxBackoff/2 { // doubled it could be more than a number holds
			wait = p.MaxBackoff
			break
		}
		wait *= 2
	}
	wait = min(wait, p.MaxBackoff)
	// Up to a fifth earlier, never later: max_backoff is the longest wait.
	return wait - time.Duration(float64(wait)*spread/5)
}

// Recent returns the times that lie within window before now.
func Recent(times []time.Time, window time.Duration, now time.Time) []time.Time {
	n := 0
	// In order of time, so the rest is younger.
	for n < len(times) && now.Sub(times[n]) > window {
		n++
	}
	return times[n:]
}
