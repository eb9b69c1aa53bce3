package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	"rbeehive/hive/errdefs"
)

// handleSIGHUP reloads at each SIGHUP until ctx ends. An error is one line in the log, and
// changes nothing.
func (d *daemon) handleSIGHUP(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.sighups:
		}
		// Cut short by the end of hive it is no mistake of the file's.
		if _, err := d.reload(ctx, false); err != nil && ctx.Err() == nil {
			d.log.WithError(err).Error("SIGHUP: reload failed, nothing was changed")
		}
	}
}

// reload reads the configuration again: the same flags and variables, and the same file as
// the start; if that found none, none. What can be changed while hive runs is applied,
// other changes are named in the plan. An error in the configuration is a
// *errdefs.InputError with the line that hive would print at its start. Then, and with
// dryRun, nothing is changed. It blocks as Hive.Reload does.
func (d *daemon) reload(ctx context.Context, dryRun bool) (hive.Plan, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	// Nothing changes, so the service manager is not told, and a failure does not stay in the status.
	if dryRun {
		return d.applyReload(ctx, d.load, true)
	}
	d.notify.reloading()
	plan, err := d.applyReload(ctx, d.load, false)
	why := ""
	if err != nil {
		why = oneLine(err)
	}
	d.hive.SetReloadFault(why)
	// Also after a failure: until then systemd takes the reload for one that is under way.
	d.notify.ready(d.status())
	return plan, err
}

// reloadTypes applies what worker_install and worker_remove have done, and nothing else:
// edits of hive.yaml wait for a reload.
func (d *daemon) reloadTypes(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	again := func(current *config.Config) (*config.Config, error) { return current, nil }
	_, err := d.applyReload(ctx, again, false)
	return err
}

// applyReload is the reload itself; reloading is held.
func (d *daemon) applyReload(ctx context.Context, load loadFunc, dryRun bool) (hive.Plan, error) {
	next, err := load(d.current)
	if err != nil {
		return hive.Plan{}, invalid(err)
	}
	// A changed data_dir needs a restart: worker_install writes to the present one.
	if next, err = next.WithTypes(d.cfg.DataDir); err != nil {
		return hive.Plan{}, invalid(err)
	}
	types, err := catalogOf(next, d.self, d.cfg.WorkerUser) // another user needs a restart, as the directory of models does
	if err != nil {
		return hive.Plan{}, invalid(err)
	}
	plan, err := d.hive.Reload(ctx, hive.ReloadConfig{
		Catalog: types, Settings: next.Settings, Applied: d.current.AppliedByDaemon(next), NeedStart: d.cfg.NeedStart(next),
	}, dryRun)
	if err != nil || dryRun {
		return plan, err
	}
	// Only now: a reload that failed must be compared with what still applies.
	d.current = next
	d.stopAtEnd.Store(next.Shutdown == hive.ShutdownStop)
	d.api.SetStreamWait(next.Jobs.StreamWait)
	d.api.SetAccess(next.Access)
	// TLS itself comes and goes with the listeners, at a start.
	if d.cfg.TLS != nil && next.TLS != nil {
		d.api.SetCertificate(next.TLS.Certificate)
		d.warnAboutCertificate(next.TLS)
	}
	if plan.Applies("queen_url") {
		d.warnAboutQueen(next.QueenURL)
	}
	if err := setLevel(d.log, next); err != nil { // it was checked when it was loaded
		return plan, err
	}
	d.warnAboutTypes(next)
	d.logReload(plan, next.File)
	return plan, nil
}

// warnAboutTypes names the files of types.d that are ignored, and what is hardly meant.
func (d *daemon) warnAboutTypes(cfg *config.Config) {
	for _, w := range cfg.Warnings {
		d.log.Warn(w.Error())
	}
	for _, file := range cfg.Shadowed {
		d.log.WithField("file", file).Warn("an installed worker type is ignored: hive.yaml has an entry of that name")
	}
}

func invalid(err error) error {
	return &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: oneLine(err)}
}

// logReload logs what a reload has changed. A setting that needs a restart is a warning:
// whoever edited the file expects it to apply.
func (d *daemon) logReload(plan hive.Plan, file string) {
	actions := map[hive.Action]int{}
	for _, w := range plan.Workers {
		actions[w.Action]++
	}
	if file == "" {
		file = "none: only a start searches for one"
	}
	log := d.log.WithFields(logrus.Fields{
		"file": file, "types": len(plan.Types), "stale": actions[hive.ActionStale], "restart": actions[hive.ActionRestart],
		"autostart": len(plan.Autostart), "applied": plan.Applied,
	})
	if len(plan.NeedStart) > 0 {
		log.WithField("need_start", plan.NeedStart).Warn("reloaded, except settings that need a restart of hive")
		return
	}
	log.Info("reloaded")
}
