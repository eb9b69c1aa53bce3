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
	"rbeehive/hive/proc"
	"rbeehive/httpapi"
)

const (
	// secondInterrupt is how long a second Ctrl-C is waited for.
	secondInterrupt = 5 * time.Second
	// requestsEnd is how long running requests may take at the end.
	requestsEnd = 3 * time.Second
)

// daemon is one run of hive.
type daemon struct {
	cfg     *config.Config                 // as it was at the start
	load    func() (*config.Config, error) // reads the same file afresh
	log     *logrus.Logger
	out     io.Writer // banner and last words
	catalog *catalog.Catalog
	self    string // the program of the reference worker
	api     *httpapi.Server
	hive    *hive.Hive
	opened  atomic.Pointer[hive.Hive] // the same, for who looks while it is being opened
	notify  *notifier
	alive   aliveness

	passed    []net.Listener // by the service manager
	listeners listeners
	url       string // what others reach hive by
	token     string // in the token file; empty: there is none; never logged

	reloading sync.Mutex     // one reload at a time: the later one has the later file
	inForce   *config.Config // what was taken over last; reloading guards it
	stopAtEnd atomic.Bool    // shutdown: stop

	reloadFailed atomic.Pointer[string] // why the last reload changed nothing; nil: it did not fail

	signals    chan os.Signal
	hangups    chan os.Signal // SIGHUP; one is kept while another is carried out
	shutdown   chan struct{}  // POST /v1/shutdown; holds one
	interrupts int            // SIGINTs so far
}

func newDaemon(cfg *config.Config, load func() (*config.Config, error), passed []net.Listener, log *logrus.Logger, out io.Writer, alive aliveness) *daemon {
	d := &daemon{
		cfg: cfg, load: load, inForce: cfg, passed: passed, log: log, out: out, notify: newNotifier(log), alive: alive,
		signals: make(chan os.Signal, 4), hangups: make(chan os.Signal, 1), shutdown: make(chan struct{}, 1),
	}
	d.stopAtEnd.Store(cfg.Shutdown == hive.ShutdownStop)
	return d
}

// run is the daemon from the first signal handler to the last word. It blocks
// until hive was told to stop (nil) or cannot go on.
func (d *daemon) run(ctx context.Context) error {
	signal.Notify(d.signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(d.signals)
	signal.Notify(d.hangups, syscall.SIGHUP)
	defer signal.Stop(d.hangups)

	// What a worker's processes leave behind comes to hive, as long as it runs:
	// descent from hive is then still to be seen, and as PID 1 it must reap.
	reaper, err := proc.NewReaper(func(pid int) { d.log.WithField("pid", pid).Debug("reaped a descendant of a worker") })
	if err != nil {
		return fmt.Errorf("become the reaper of workers' descendants: %w", err)
	}
	defer reaper.Close()

	// Mistakes in the configuration first: they are told whoever has the address.
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find hive's own program: %w", err)
	}
	if err := d.makeCatalog("/hive"); err != nil { // any path; the real one is known later
		return err
	}
	if err := d.listen(ctx, exe); err != nil {
		return err
	}
	d.api = httpapi.New(d.apiOptions())
	served := d.serveAll()
	why, err := d.start(ctx)
	if err == nil && why == goOn {
		why, err = d.serve(ctx, served)
	}
	d.notify.stop()
	// The listener is closed before anything that takes time: rbee's keeper
	// kills by name what still answers a second after it asked for a shutdown.
	d.closeAPI(served)
	if d.hive == nil {
		return err
	}
	return errors.Join(err, d.finish(why))
}

func (d *daemon) apiOptions() httpapi.Options {
	opts := httpapi.Options{
		Log: d.log, AllowedHosts: allowedHosts(d.cfg), Access: d.cfg.Access, Token: d.token, TokenFile: tokenPath(d.cfg.DataDir),
		MaxConnections: maxConnections(len(d.listeners.all())), StreamWait: d.cfg.Jobs.StreamWait, Shutdown: d.askShutdown, Reload: d.reload,
	}
	if d.cfg.TLS != nil {
		opts.Certificate = d.cfg.TLS.Certificate
	}
	return opts
}

// serveAll serves on every listener. The channel gets what each ends with, and is
// closed when all have ended.
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

// prepare makes what the state needs before it is opened, and the token.
func (d *daemon) prepare(exe string) error {
	if err := prepareDataDir(d.cfg.DataDir); err != nil {
		return err
	}
	if err := checkModels(d.cfg.Models.Dir); err != nil {
		return err
	}
	if err := letPass(d.cfg.DataDir, d.cfg.Models.Dir, d.cfg.WorkerUser); err != nil {
		d.log.WithError(err).WithField("user", d.cfg.WorkerUser).Warn("workers cannot read the models of hive's own catalog: their user gets no further than the data directory; set models.dir to a place that it reaches")
	}
	token, err := tokenOf(d.cfg.DataDir, d.cfg.NeedsToken())
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

// catalogOf makes the worker types; user is whom they run as unless they say it.
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

// askShutdown is called by POST /v1/shutdown; asking twice is the same.
func (d *daemon) askShutdown() {
	select {
	case d.shutdown <- struct{}{}:
	default:
	}
}
