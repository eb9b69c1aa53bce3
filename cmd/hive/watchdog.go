package main

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"rbeehive/hive"
)

// checkInterval is the longest time between health checks, and so the age of the status
// that systemd shows.
const checkInterval = 10 * time.Second

// healthCheck returns nil if the hive can do its work. It may block for ever if it cannot.
type healthCheck func(*hive.Hive, context.Context) error

// watchdog notifies the service manager that hive works. The main loop starts each health
// check and handles its result, so a notification is sent only if the main loop runs and
// the check ends: a goroutine that only sends would prove nothing but itself.
type watchdog struct {
	notify   *notifier
	check    func(context.Context) (status string, err error)
	ticker   *time.Ticker     // nil: there is no service manager to notify
	enabled  bool             // systemd has a watchdog for hive
	results  chan checkResult // holds one
	checking bool             // a check is under way
}

type checkResult struct {
	status string
	err    error
}

// newWatchdog does nothing without a service manager.
func newWatchdog(n *notifier, check func(context.Context) (string, error)) *watchdog {
	p := &watchdog{notify: n, check: check, results: make(chan checkResult, 1)}
	if !n.enabled {
		return p
	}
	limit, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		n.log.WithError(err).Warn("systemd's watchdog is not notified: invalid WATCHDOG_USEC or WATCHDOG_PID")
	}
	p.enabled = limit > 0
	every := checkInterval
	if p.enabled {
		every = min(every, limit/2)
	}
	p.ticker = time.NewTicker(every)
	return p
}

// ticks is when startCheck is to be called.
func (p *watchdog) ticks() <-chan time.Time {
	if p.ticker == nil {
		return nil
	}
	return p.ticker.C
}

// startCheck starts a check, unless the last one has not ended: then hive is stuck, and
// systemd is not notified until it is not. Nothing waits for the check's goroutine: it uses
// nothing that Close releases, and it may be the one thing that never ends.
func (p *watchdog) startCheck(ctx context.Context) {
	if p.checking {
		return
	}
	p.checking = true
	go func() {
		status, err := p.check(ctx)
		p.results <- checkResult{status, err}
	}()
}

// handleResult reports the result of a check.
func (p *watchdog) handleResult(s checkResult) {
	p.checking = false
	if s.err != nil {
		p.notify.log.WithError(s.err).Error("health check failed; systemd's watchdog is not notified")
		return
	}
	p.notify.alive(s.status, p.enabled)
}

func (p *watchdog) stop() {
	if p.ticker != nil {
		p.ticker.Stop()
	}
}

// checkHealth runs the health check, and returns the status line.
func (d *daemon) checkHealth(ctx context.Context) (status string, err error) {
	if err := d.healthCheck(d.hive, ctx); err != nil {
		return "", err
	}
	return d.status(), nil
}

// status is one line about a hive that serves.
func (d *daemon) status() string {
	s := fmt.Sprintf("serving at %s: %s", d.url, countWorkers(d.running()))
	if why := d.hive.ReloadFault(); why != "" {
		s += "; the last reload failed: " + why
	}
	return s
}

// progress is one line about a hive that starts.
func (d *daemon) progress() string {
	h := d.opened.Load()
	if h == nil {
		return "opening the state"
	}
	if s := h.Status(); s.Total > 0 {
		return fmt.Sprintf("recovering %d/%d", s.Done, s.Total)
	}
	return "recovering"
}
