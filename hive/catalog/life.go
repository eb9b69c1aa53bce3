package catalog

import (
	"path/filepath"
	"strings"
	"time"

	"rbeehive/store"
	"rbeehive/store/plain"
)

// LiveEntry is the live key of an entry: how a worker that is ready is watched.
type LiveEntry struct {
	Path     *string        `mapstructure:"path"`     // default: that of ready
	Interval *time.Duration `mapstructure:"interval"` // default 10s if anything of live is given, else 0: not at all
	Timeout  *time.Duration `mapstructure:"timeout"`  // of one probe; default 5s, or interval if that is shorter
	Failures int            `mapstructure:"failures"` // in a row; default 3
	Action   string         `mapstructure:"action"`   // restart (default) or report
}

// RestartEntry is the restart key of an entry: what is done when a worker ends by
// itself.
type RestartEntry struct {
	Policy     string         `mapstructure:"policy"` // default on-failure for autostart entries, never for the rest
	Max        *int           `mapstructure:"max"`    // default 5
	Window     *time.Duration `mapstructure:"window"` // default 10m
	Backoff    *time.Duration `mapstructure:"backoff"`
	MaxBackoff *time.Duration `mapstructure:"max_backoff"`
}

const (
	defaultLiveInterval = 10 * time.Second
	defaultLiveFailures = 3
	minTimeout          = 100 * time.Millisecond
	defaultMax          = 5
	defaultWindow       = 10 * time.Minute
	defaultBackoff      = time.Second
	defaultMaxBackoff   = 30 * time.Second
)

// checkLife checks what an entry says about restarts, probes and users.
func (e *Entry) checkLife(fail faults) {
	for _, f := range [][2]string{{"dir", e.Dir}, {"env_file", e.EnvFile}} {
		switch key, path := f[0], f[1]; {
		case plain.Home(path) != "":
			checkHome(fail, key, path)
		case path != "" && !filepath.IsAbs(path):
			fail(key, "%q: expected an absolute path", path)
		}
	}
	if strings.ContainsAny(e.User, " \t\n\x00") {
		fail("user", "%q: expected the name of a user, a uid, or uid:gid", e.User)
	}
	if e.Reload != "" && e.Reload != "restart" && e.Reload != "keep" {
		fail("reload", "%q: expected keep or restart", e.Reload)
	}
	e.Live.check(fail.under("live"))
	e.Restart.check(fail.under("restart"))
}

func (l *LiveEntry) check(fail faults) {
	if l.Path != nil && *l.Path != "" && !strings.HasPrefix(*l.Path, "/") {
		fail("path", "%q: expected a path that begins with '/', or \"\" when listening is enough", *l.Path)
	}
	if l.Interval != nil && *l.Interval != 0 && *l.Interval < 100*time.Millisecond {
		fail("interval", "expected a duration of 100ms or more, or 0s: not at all")
	}
	if l.Timeout != nil && *l.Timeout < minTimeout {
		fail("timeout", "expected a duration of 100ms or more")
	}
	// One probe has ended when the next is due, so that what does not answer at all is seen after failures of them.
	if l.Timeout != nil && *l.Timeout >= minTimeout && l.interval() > 0 && *l.Timeout > l.interval() {
		fail("timeout", "%s: expected a duration that is not longer than live.interval (%s)", *l.Timeout, l.interval())
	}
	if l.Failures < 0 || l.Failures > 1000 {
		fail("failures", "%d: expected a number from 1 to 1000", l.Failures)
	}
	if l.Action != "" && l.Action != "restart" && l.Action != "report" {
		fail("action", "%q: expected restart or report", l.Action)
	}
}

// interval is from the beginning of one probe to that of the next; 0: there are none.
func (l *LiveEntry) interval() time.Duration {
	if l.Interval == nil {
		return defaultLiveInterval
	}
	return *l.Interval
}

func (r *RestartEntry) check(fail faults) {
	switch store.RestartPolicy(r.Policy) {
	case "", store.RestartNever, store.RestartOnFailure, store.RestartAlways:
	default:
		fail("policy", "%q: expected never, on-failure or always", r.Policy)
	}
	if r.Max != nil && (*r.Max < 1 || *r.Max > 1000) {
		fail("max", "%d: expected a number from 1 to 1000", *r.Max)
	}
	for _, d := range []struct {
		key   string
		value *time.Duration
	}{{"window", r.Window}, {"backoff", r.Backoff}, {"max_backoff", r.MaxBackoff}} {
		if d.value != nil && *d.value < time.Millisecond {
			fail(d.key, "expected a duration of 1ms or more")
		}
	}
}

// spec is what the entry says of liveness; ready is the worker's readiness.
func (l *LiveEntry) spec(ready store.Ready) store.Live {
	// Nothing of live is given: no probes.
	if *l == (LiveEntry{}) {
		return store.Live{}
	}
	out := store.Live{Path: ready.Path, Interval: l.interval(), Failures: defaultLiveFailures, Restart: l.Action != "report"}
	if l.Path != nil {
		out.Path = *l.Path
	}
	out.Timeout = out.AnswerTimeout()
	if l.Timeout != nil {
		out.Timeout = *l.Timeout
	}
	if l.Failures > 0 {
		out.Failures = l.Failures
	}
	return out
}

func (r *RestartEntry) spec(autostart bool) store.Restart {
	out := store.Restart{Policy: store.RestartNever, Max: defaultMax, Window: defaultWindow, Backoff: defaultBackoff, MaxBackoff: defaultMaxBackoff}
	if autostart {
		out.Policy = store.RestartOnFailure
	}
	if r.Policy != "" {
		out.Policy = store.RestartPolicy(r.Policy)
	}
	if r.Max != nil {
		out.Max = *r.Max
	}
	if r.Window != nil {
		out.Window = *r.Window
	}
	if r.Backoff != nil {
		out.Backoff = *r.Backoff
	}
	if r.MaxBackoff != nil {
		out.MaxBackoff = *r.MaxBackoff
	}
	// An entry may set only backoff, above the default of max_backoff.
	out.MaxBackoff = max(out.MaxBackoff, out.Backoff)
	return out
}
