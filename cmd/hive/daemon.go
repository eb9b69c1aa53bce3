package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/hive/host"
	"rbeehive/hive/proc"
	"rbeehive/httpapi"
)

const (
	// secondInterruptTimeout is how long hive waits for a second Ctrl-C.
	secondInterruptTimeout = 5 * time.Second
	// requestsTimeout is how long running requests may take at shutdown.
	requestsTimeout = 3 * time.Second
)

// daemon is one run of hive.
type daemon struct {
	cfg  *config.Config // as it was at the start
	load loadFunc
	log  *logrus.Logger
	out  io.Writer // banner and exit messages
	// droppedLines is how many lines of the log nobody has read.
	droppedLines func() uint64
	catalog      *catalog.Catalog
	self         string // the program of the reference worker
	api          *httpapi.Server
	hive         *hive.Hive
	opened       atomic.Pointer[hive.Hive] // the same, for readers while it is being opened
	notify       *notifier
	healthCheck  healthCheck

	passed    []net.Listener // by the service manager
	listeners listeners
	url       string // the URL of hive for others
	token     string // in the token file; empty: there is none; never logged

	reloading sync.Mutex     // one reload at a time: the later one has the later file
	current   *config.Config // the last configuration that was applied; reloading guards it
	stopAtEnd atomic.Bool    // shutdown: stop

	signals    chan os.Signal
	sighups    chan os.Signal // SIGHUP; one is queued while another is handled
	shutdown   chan struct{}  // POST /v1/shutdown; holds one
	interrupts int            // SIGINTs so far
}

// loadFunc reads the file of a configuration again.
type loadFunc func(*config.Config) (*config.Config, error)

func newDaemon(cfg *config.Config, load loadFunc, passed []net.Listener, log *logrus.Logger, out io.Writer, check healthCheck) *daemon {
	d := &daemon{
		cfg: cfg, load: load, current: cfg, passed: passed, log: log, out: out, notify: newNotifier(log), healthCheck: check,
		signals: make(chan os.Signal, 4), sighups: make(chan os.Signal, 1), shutdown: make(chan struct{}, 1),
	}
	d.stopAtEnd.Store(cfg.Shutdown == hive.ShutdownStop)
	return d
}

// run is the daemon from the first signal handler to the exit message. It blocks until hive
// was told to stop (nil) or cannot continue.
func (d *daemon) run(ctx context.Context) error {
	signal.Notify(d.signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(d.signals)
	signal.Notify(d.sighups, syscall.SIGHUP)
	defer signal.Stop(d.sighups)

	// hive adopts the orphaned descendants of workers, as long as it runs: their descent
	// from hive then stays visible, and as PID 1 it must reap.
	reaper, err := proc.NewReaper(func(pid int) { d.log.WithField("pid", pid).Debug("reaped a descendant of a worker") })
	if err != nil {
		return fmt.Errorf("become the reaper of workers' descendants: %w", err)
	}
	defer reaper.Close()

	// Errors in the configuration first, whoever has the address.
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find hive's executable: %w", err)
	}
	if err := d.makeCatalog("/hive"); err != nil { // any path; the real one is known later
		return err
	}
	if d.cfg.Gate == "process" {
		proc.GateOnly()
	}
	if err := host.KeepThreads(ctx); err != nil {
		return err
	}
	if err := d.listen(ctx, exe); err != nil {
		return err
	}
	d.api = httpapi.New(d.apiOptions())
	served := d.serveAll()
	why, err := d.start(ctx)
	if err == nil && why == reasonNone {
		why, err = d.serve(ctx, served)
	}
	d.notify.stop()
	// The listener is closed before anything that takes time: rbee's keeper kills by name
	// what still responds a second after it requested a shutdown.
	d.closeAPI(served)
	// The state was never opened: there are no workers to ask about.
	if d.hive == nil {
		return err
	}
	return errors.Join(err, d.finish(why))
}

func (d *daemon) apiOptions() httpapi.Options {
	opts := httpapi.Options{
		Log: d.log, AllowedHosts: allowedHosts(d.cfg), Access: d.cfg.Access, Token: d.token, TokenFile: tokenPath(d.cfg.DataDir),
		MaxConnections: maxConnections(len(d.listeners.all())), StreamWait: d.cfg.Jobs.StreamWait, Shutdown: d.requestShutdown, Reload: d.reload, DroppedLines: d.droppedLines,
	}
	if d.cfg.TLS != nil {
		opts.Certificate = d.cfg.TLS.Certificate
	}
	return opts
}

// serveAll serves on every listener. The channel gets the error of each, and is closed when
// all have ended.
func (d *daemon) serveAll() <-chan error {
	lns := d.listeners.all()
	served := make(chan error, len(lns))
	var all sync.WaitGroup
	for _, ln := range lns {
		all.Go(func() { served <- d.api.Serve(ln) })
	}
	go func() {
		all.Wait()
		close(served)
	}()
	return served
}

// prepare creates what the state needs before it is opened, and the token.
func (d *daemon) prepare(exe string) error {
	if err := prepareDataDir(d.cfg.DataDir); err != nil {
		return err
	}
	if err := checkModels(d.cfg.Models.Dir); err != nil {
		return err
	}
	if err := grantTraversal(d.cfg.DataDir, d.cfg.Models.Dir, d.cfg.WorkerUser); err != nil {
		d.log.WithError(err).WithField("user", d.cfg.WorkerUser).Warn("workers cannot read the models of hive's catalog: their user has no access to the data directory; set models.dir to a directory that it can reach")
	}
	token, err := loadToken(d.cfg.DataDir, d.cfg.NeedsToken())
	if err != nil {
		return err
	}
	d.token = token
	self, err := workerProgram(exe, d.cfg.DataDir)
	if err != nil {
		return err
	}
	return d.makeCatalog(self)
}

// makeCatalog reads the worker types; self is the program of the reference worker.
func (d *daemon) makeCatalog(self string) (err error) {
	d.self = self
	d.catalog, err = catalogOf(d.cfg, self, d.cfg.WorkerUser)
	return err
}

// catalogOf makes the worker types; user is the user of those that name none.
func catalogOf(cfg *config.Config, self, user string) (*catalog.Catalog, error) {
	types, err := catalog.New(cfg.Workers, self)
	if e, ok := errors.AsType[*catalog.EntryError](err); ok && e.File != "" {
		return nil, &config.Error{Source: e.File, Reason: e.Key + ": " + e.Reason}
	}
	if err != nil {
		return nil, &config.Error{Source: cfg.File, Reason: err.Error()}
	}
	return types.WithUser(user), nil
}

// requestShutdown is called by POST /v1/shutdown; a second call changes nothing.
func (d *daemon) requestShutdown() {
	select {
	case d.shutdown <- struct{}{}:
	default:
	}
}
