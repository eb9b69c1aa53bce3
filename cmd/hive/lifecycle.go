package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"rbeehive/hive"
	"rbeehive/hive/host"
)

// reason is why hive stops.
type reason int

const (
	reasonNone    reason = iota
	stopRequested        // SIGTERM, POST /v1/shutdown, or the caller's context
	interrupted          // SIGINT: a person, who may want the workers gone too
	failed               // it cannot continue
)

// start opens the state and recovers. The API answers 503 meanwhile. A signal
// cuts it short; the reason is then not reasonNone.
func (d *daemon) start(ctx context.Context) (reason, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// On a goroutine of its own, so that a signal and systemd's time limit are seen meanwhile.
	done := make(chan error, 1)
	go func() { done <- d.open(ctx) }()
	start, ticker := time.Now(), time.NewTicker(notifyInterval)
	defer ticker.Stop()
	var why reason
	for why == reasonNone {
		d.notify.starting(start, d.progress())
		select {
		case err := <-done:
			if err != nil {
				return failed, err
			}
			return reasonNone, nil
		case sig := <-d.signals:
			why = d.onSignal(sig)
		case <-d.shutdown:
			why = stopRequested
		case <-ticker.C:
		}
	}
	cancel()
	defer mustEnd("the start")()
	// open is waited for: what it has opened by now is closed at the end of run.
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		return failed, err
	}
	return why, nil
}

func (d *daemon) open(ctx context.Context) error {
	cfg := d.cfg.Config
	cfg.Version, cfg.URL, cfg.APIPorts = programVersion(), d.url, tcpPorts(d.listeners.all())
	cfg.Catalog, cfg.ReloadTypes, cfg.Log = d.catalog, d.reloadTypes, d.log
	h, err := hive.Open(ctx, cfg)
	if err != nil {
		return err
	}
	d.hive = h
	d.opened.Store(h)
	// Before recovery, so that the API can say how far that is.
	d.api.SetHive(h)
	if err := h.Recover(ctx); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return nil
}

// serve runs the hive until there is a reason to stop.
func (d *daemon) serve(ctx context.Context, served <-chan error) (reason, error) {
	runCtx, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() {
		ran <- d.hive.Run(runCtx)
		close(ran)
	}()
	var aside sync.WaitGroup
	aside.Go(func() { d.handleSIGHUP(runCtx) })
	aside.Go(func() { d.restoreSockets(runCtx) })
	// Nothing of the hive may run when it is closed: a reload or an audit would meet a closed state.
	defer func() {
		defer mustEnd("what hive does aside")()
		stop()
		aside.Wait()
		for range ran { // until it is closed: Run has returned
		}
	}()
	d.notify.ready(d.status())
	d.printBanner(ctx)
	p := newWatchdog(d.notify, d.checkHealth)
	defer p.stop()
	for {
		select {
		case sig := <-d.signals:
			return d.onSignal(sig), nil
		case <-d.shutdown:
			d.log.Info("stopping: requested by POST /v1/shutdown")
			return stopRequested, nil
		case <-ctx.Done():
			return stopRequested, nil
		case err := <-served:
			return failed, err
		case err := <-ran:
			return failed, err
		case <-p.ticks():
			p.startCheck(runCtx)
		case s := <-p.results:
			p.handleResult(s)
		}
	}
}

func (d *daemon) onSignal(sig os.Signal) reason {
	d.log.WithField("signal", sig.String()).Info("stopping")
	if sig == syscall.SIGINT {
		d.interrupts++
		return interrupted
	}
	return stopRequested
}

// closeAPI closes the listeners, ends streams and waits for running requests.
func (d *daemon) closeAPI(served <-chan error) {
	// Not run's ctx: it may be what has ended the service.
	ctx, cancel := context.WithTimeout(context.Background(), requestsTimeout)
	defer cancel()
	if err := d.api.Shutdown(ctx); err != nil {
		d.log.WithError(err).Warn("requests were aborted")
	}
	for range served { // until it is closed: all listeners are
	}
}

// finish stops the workers if that is wanted, closes the hive and prints how many run.
func (d *daemon) finish(why reason) error {
	// Before it recovers a hive does not know which processes are its workers.
	recovered := d.hive.Status().Serving
	var err error
	if recovered && d.stopWanted(why) {
		err = d.stopWorkers()
	}
	// Counted before Close, after which there is no state to count in.
	left := d.running()
	done := mustEnd("hive")
	err = errors.Join(err, d.hive.Close())
	done()
	d.printExit(left, recovered)
	return err
}

// stopWanted decides about the workers; after one SIGINT it waits for a second.
func (d *daemon) stopWanted(why reason) bool {
	if why == failed {
		return false // the state cannot be written; recovery decides
	}
	if d.stopAtEnd.Load() {
		return true // also with none: one may be starting
	}
	left := d.running()
	if why != interrupted || left == 0 {
		return false
	}
	fmt.Fprintf(d.out, "%s; Ctrl-C again within %v stops %s too\n", workersAfterExit(left), secondInterruptTimeout, pronoun(left))
	timer := time.NewTimer(secondInterruptTimeout)
	defer timer.Stop()
	select {
	case sig := <-d.signals:
		return d.onSignal(sig) == interrupted
	case <-timer.C:
		return false
	}
}

// stopWorkers stops all workers. A third SIGINT gives up waiting for them.
func (d *daemon) stopWorkers() error {
	if n := d.running(); n > 0 {
		fmt.Fprintf(d.out, "stopping %s\n", countWorkers(n))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Aside, since a worker may take the whole of its grace, and signals must be seen.
	done := make(chan error, 1)
	go func() { done <- d.hive.StopWorkers(ctx) }()
	ticker := time.NewTicker(notifyInterval)
	defer ticker.Stop()
	for {
		d.notify.ending("stopping " + countWorkers(d.running()))
		select {
		case <-ticker.C:
		case err := <-done:
			if err != nil {
				return fmt.Errorf("stop the workers: %w", err)
			}
			return nil
		case sig := <-d.signals:
			if d.onSignal(sig); d.interrupts > 2 {
				cancel()
			}
		}
	}
}

// running is the number of workers that have a process.
func (d *daemon) running() int {
	n := 0
	for _, w := range d.hive.Workers() {
		if !w.State.Ended() {
			n++
		}
	}
	return n
}

// printBanner prints the banner and warnings; a failure to do so is no reason to stop.
func (d *daemon) printBanner(ctx context.Context) {
	d.warnAboutQueen(d.cfg.QueenURL)
	d.warnAboutAccess()
	d.warnAboutEnvironment()
	d.warnAboutTypes(d.cfg)
	d.warnAboutUnread()
	d.warnAboutExecutable()
	if t, ok := d.catalog.Type("cpu"); ok && t.Unavailable() != "" {
		d.log.Warn(t.Unavailable())
	}
	survey, err := d.hive.Ports(ctx)
	if err != nil {
		d.log.WithError(err).Warn("reading the ports failed")
	}
	b := banner{
		hiveID: d.cfg.HiveID, url: d.url, callers: d.callers(), file: d.cfg.File, dataDir: d.cfg.DataDir,
		recovery: d.hive.Info().Recovery, ports: survey,
		workers: d.hive.Workers(), types: d.catalog.Types(), isInit: host.IsInit(),
		hivectl: hivectlHere(), service: isService(),
	}
	if err := b.writeTo(d.out); err != nil {
		d.log.WithError(err).Warn("printing the banner failed")
	}
}

// printExit prints the last line.
func (d *daemon) printExit(left int, recovered bool) {
	switch {
	case !recovered:
		fmt.Fprintln(d.out, "hive stopped before recovery was complete; workers keep running, and the next start of hive adopts them")
	case left == 0 || host.IsInit():
		fmt.Fprintln(d.out, "hive stopped; "+workersAfterExit(left))
	default:
		fmt.Fprintf(d.out, "hive stopped; %s, and the next start of hive adopts %s\n", keepRunning(left), pronoun(left))
	}
}

// warnAboutEnvironment warns about an environment in which workers do not survive, or run
// as root.
func (d *daemon) warnAboutEnvironment() {
	if host.IsInit() {
		d.log.Warn("hive is PID 1 of its container: its workers end with it, also when it crashes or is upgraded, and their ports are freed at the next start; " +
			"to keep them run hive under an init that outlives it, or outside the container (docs/docker.md)")
	}
	if os.Geteuid() == 0 && d.cfg.WorkerUser == "" {
		d.log.Warn("workers run as root unless their entry names a user; set worker_user in the configuration (to root, if that is intended)")
	}
}

// workersAfterExit says what happens to n workers when hive ends.
func workersAfterExit(n int) string {
	if n == 0 || !host.IsInit() {
		return keepRunning(n)
	}
	if n == 1 {
		return "1 worker ends with the container"
	}
	return countWorkers(n) + " end with the container"
}

func keepRunning(n int) string {
	switch n {
	case 0:
		return "no workers running"
	case 1:
		return "1 worker keeps running"
	}
	return fmt.Sprintf("%d workers keep running", n)
}

func pronoun(n int) string {
	if n == 1 {
		return "it"
	}
	return "them"
}
