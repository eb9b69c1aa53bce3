package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	"rbeehive/hive/errdefs"
)

// hearHangups reloads at each SIGHUP until ctx ends. A mistake is one line in the
// log, and nothing has changed.
func (d *daemon) hearHangups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.hangups:
		}
		if _, err := d.reload(ctx, false); err != nil && ctx.Err() == nil {
			d.log.WithError(err).Error("SIGHUP: nothing was reloaded")
		}
	}
}

// reload reads the configuration afresh: the same flags and variables, and the same
// file as the start; if that found none, none. What can be changed while hive runs is
// taken over, the rest is named in the plan. A mistake in the configuration is a
// *errdefs.InputError with the line that hive would print at its start. Then, and
// with dryRun, nothing is changed. It blocks as Hive.Reload does.
func (d *daemon) reload(ctx context.Context, dryRun bool) (hive.Plan, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if dryRun {
		return d.takeOver(ctx, d.load, true)
	}
	d.notify.reloading()
	plan, err := d.takeOver(ctx, d.load, false)
	d.reloadFailed.Store(nil)
	if err != nil {
		why := oneLine(err)
		d.reloadFailed.Store(&why)
	}
	d.notify.ready(d.status())
	return plan, err
}

// reloadTypes takes over what worker_install and worker_remove have done, and
// nothing else: the edits of a hive.yaml that somebody is at wait for a reload.
func (d *daemon) reloadTypes(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	again := func() (*config.Config, error) { return d.inForce, nil }
	_, err := d.takeOver(ctx, again, false)
	return err
}

// takeOver is the reload itself; reloading is held.
func (d *daemon) takeOver(ctx context.Context, load func() (*config.Config, error), dryRun bool) (hive.Plan, error) {
	next, err := load()
	if err != nil {
		return hive.Plan{}, invalid(err)
	}
	// A data_dir that waits for the next start is not where worker_install writes.
	if next, err = next.WithTypes(d.cfg.DataDir); err != nil {
		return hive.Plan{}, invalid(err)
	}
	types, err := catalogOf(next, d.self, d.cfg.WorkerUser) // another user waits for the next start, as the directory of models does
	if err != nil {
		return hive.Plan{}, invalid(err)
	}
	plan, err := d.hive.Reload(ctx, hive.ReloadConfig{
		Catalog: types, Settings: next.Settings, Applied: d.inForce.OfProgram(next), NeedStart: d.cfg.NeedStart(next),
	}, dryRun)
	if err != nil || dryRun {
		return plan, err
	}
	d.inForce = next
	d.stopAtEnd.Store(next.Shutdown == hive.ShutdownStop)
	d.api.SetStreamWait(next.Jobs.StreamWait)
	d.api.SetAccess(next.Access)
	if d.cfg.TLS != nil && next.TLS != nil {
		d.api.SetCertificate(next.TLS.Certificate)
		d.warnOfCertificate(next.TLS)
	}
	if plan.Applies("queen_url") {
		d.warnOfQueen(next.QueenURL)
	}
	if err := setLevel(d.log, next); err != nil { // it was checked when it was loaded
		return plan, err
	}
	d.warnOfShadowed(next)
	d.tell(plan, next.File)
	return plan, nil
}

// warnOfShadowed names the files of types.d that do not count.
func (d *daemon) warnOfShadowed(cfg *config.Config) {
	for _, file := range cfg.Shadowed {
		d.log.WithField("file", file).Warn("an installed worker type does not count: hive.yaml has an entry of its name")
	}
}

func invalid(err error) error {
	return &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: oneLine(err)}
}

// tell logs what a reload has changed. What waits for a start is a warning: who
// has edited the file expects it to count.
func (d *daemon) tell(plan hive.Plan, file string) {
	actions := map[hive.Action]int{}
	for _, w := range plan.Workers {
		actions[w.Action]++
	}
	if file == "" {
		file = "none: only a start looks for one"
	}
	log := d.log.WithFields(logrus.Fields{
		"file": file, "types": len(plan.Types), "stale": actions[hive.ActionStale], "restart": actions[hive.ActionRestart],
		"autostart": len(plan.Autostart), "applied": plan.Applied,
	})
	if len(plan.NeedStart) > 0 {
		log.WithField("need_start", plan.NeedStart).Warn("reloaded, but for settings that wait for the next start of hive")
		return
	}
	log.Info("reloaded")
}
