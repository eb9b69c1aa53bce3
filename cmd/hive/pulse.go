package main

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"rbeehive/hive"
)

// beatEvery is how often hive looks whether it lives, at least: the status that
// systemd shows is so old at most.
const beatEvery = 10 * time.Second

// aliveness is nil if the hive can do its work. It may block for ever if it cannot.
type aliveness func(*hive.Hive, context.Context) error

// pulse shows the service manager that hive lives. The main loop asks for each
// look and passes on what it found, so a word is sent only if the main loop goes
// round and the look comes to an end: a goroutine that only sends would show that
// it itself lives.
type pulse struct {
	notify *notifier
	look   func(context.Context) (status string, err error)
	ticker *time.Ticker // nil: nobody wants to know
	fed    bool         // systemd has a watchdog for hive
	looked chan sight   // holds one
	busy   bool         // a look is under way
}

type sight struct {
	status string
	err    error
}

// newPulse is without effect if nobody asks to be told.
func newPulse(n *notifier, look func(context.Context) (string, error)) *pulse {
	p := &pulse{notify: n, look: look, looked: make(chan sight, 1)}
	if !n.asks {
		return p
	}
	limit, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		n.log.WithError(err).Warn("systemd's watchdog is not fed: WATCHDOG_USEC or WATCHDOG_PID cannot be read")
	}
	p.fed = limit > 0
	every := beatEvery
	if p.fed {
		every = min(every, limit/2)
	}
	p.ticker = time.NewTicker(every)
	return p
}

// beats is when beat is to be called.
func (p *pulse) beats() <-chan time.Time {
	if p.ticker == nil {
		return nil
	}
	return p.ticker.C
}

// beat begins a look, unless the last one has not come to an end: then hive is
// stuck, and systemd hears nothing until it is not. Nobody waits for the look's
// goroutine: it takes nothing that Close could take away from it, and it may be
// the one thing that never ends.
func (p *pulse) beat(ctx context.Context) {
	if p.busy {
		return
	}
	p.busy = true
	go func() {
		status, err := p.look(ctx)
		p.looked <- sight{status, err}
	}()
}

// seen passes on what a look has found.
func (p *pulse) seen(s sight) {
	p.busy = false
	if s.err != nil {
		p.notify.log.WithError(s.err).Error("hive does not find itself alive; systemd's watchdog is not fed")
		return
	}
	p.notify.alive(s.status, p.fed)
}

func (p *pulse) stop() {
	if p.ticker != nil {
		p.ticker.Stop()
	}
}

// examine looks whether hive lives, and says what it does.
func (d *daemon) examine(ctx context.Context) (status string, err error) {
	if err := d.alive(d.hive, ctx); err != nil {
		return "", err
	}
	return d.status(), nil
}

// status is one line about a hive that serves.
func (d *daemon) status() string {
	s := fmt.Sprintf("serving at %s: %s", d.url, countWorkers(d.running()))
	if failed := d.reloadFailed.Load(); failed != nil {
		s += "; the last reload failed: " + *failed
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
