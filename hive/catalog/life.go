package catalog

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"rbeehive/store"
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
func (e *Entry) checkLife() (key, why string) {
	switch {
	case e.Dir != "" && !filepath.IsAbs(e.Dir):
		return "dir", fmt.Sprintf("%q: expected an absolute path", e.Dir)
	case e.EnvFile != "" && !filepath.IsAbs(e.EnvFile):
		return "env_file", fmt.Sprintf("%q: expected an absolute path", e.EnvFile)
	case strings.ContainsAny(e.User, " \t\n\x00"):
		return "user", fmt.Sprintf("%q: expected the name of a user, a uid, or uid:gid", e.User)
	case e.Reload != "" && e.Reload != "restart" && e.Reload != "keep":
		return "reload", fmt.Sprintf("%q: expected keep or restart", e.Reload)
	}
	if key, why := e.Live.check(); why != "" {
		return "live." + key, why
	}
	if key, why := e.Restart.check(); why != "" {
		return "restart." + key, why
	}
	return "", ""
}

func (l *LiveEntry) check() (key, why string) {
	switch {
	case l.Path != nil && *l.Path != "" && !strings.HasPrefix(*l.Path, "/"):
		return "path", fmt.Sprintf("%q: expected a path that begins with '/', or \"\" when listening is enough", *l.Path)
	case l.Interval != nil && *l.Interval != 0 && *l.Interval < 100*time.Millisecond:
		return "interval", "expected a duration of 100ms or more, or 0s: not at all"
	case l.Timeout != nil && *l.Timeout < minTimeout:
		return "timeout", "expected a duration of 100ms or more"
	// One probe has ended when the next is due, so that what does not answer at all is seen after failures of them.
	case l.Timeout != nil && l.interval() > 0 && *l.Timeout > l.interval():
		return "timeout", fmt.Sprintf("%s: expected a duration that is not longer than live.interval (%s)", *l.Timeout, l.interval())
	case l.Failures < 0 || l.Failures > 1000:
		return "failures", fmt.Sprintf("%d: expected a number from 1 to 1000", l.Failures)
	case l.Action != "" && l.Action != "restart" && l.Action != "report":
		return "action", fmt.Sprintf("%q: expected restart or report", l.Action)
	}
	return "", ""
}

// interval is from the beginning of one probe to that of the next; 0: there are none.
func (l *LiveEntry) interval() time.Duration {
	if l.Interval == nil {
		return defaultLiveInterval
	}
	return *l.Interval
}

func (r *RestartEntry) check() (key, why string) {
	switch store.RestartPolicy(r.Policy) {
	case "", store.RestartNever, store.RestartOnFailure, store.RestartAlways:
	default:
		return "policy", fmt.Sprintf("%q: expected never, on-failure or always", r.Policy)
	}
	if r.Max != nil && (*r.Max < 1 || *r.Max > 1000) {
		return "max", fmt.Sprintf("%d: expected a number from 1 to 1000", *r.Max)
	}
	for _, d := range []struct {
		key   string
		value *time.Duration
	}{{"window", r.Window}, {"backoff", r.Backoff}, {"max_backoff", r.MaxBackoff}} {
		if d.value != nil && *d.value < time.Millisecond {
			return d.key, "expected a duration of 1ms or more"
		}
	}
	return "", ""
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
