package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
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
	cfg     *config.Config
	log     *logrus.Logger
	out     io.Writer // banner and last words
	catalog *catalog.Catalog
	url     string
	api     *httpapi.Server
	hive    *hive.Hive

	signals    chan os.Signal
	shutdown   chan struct{} // POST /v1/shutdown; holds one
	interrupts int           // SIGINTs so far
}

func newDaemon(cfg *config.Config, log *logrus.Logger, out io.Writer) *daemon {
	return &daemon{
		cfg: cfg, log: log, out: out,
		signals: make(chan os.Signal, 4), shutdown: make(chan struct{}, 1),
	}
}

// run is the daemon from the first signal handler to the last word. It blocks
// until hive was told to stop (nil) or cannot go on.
func (d *daemon) run(ctx context.Context) error {
	signal.Notify(d.signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(d.signals)

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
	ln, err := listen(ctx, d.cfg.Listen)
	if err != nil {
		return err
	}
	d.url = "http://" + ln.Addr().String()
	if err := d.prepare(exe); err != nil {
		return errors.Join(err, ln.Close())
	}
	d.api = httpapi.New(httpapi.Options{
		Log: d.log, AllowedHosts: d.cfg.AllowedHosts, StreamWait: d.cfg.Jobs.StreamWait, Shutdown: d.askShutdown,
	})
	served := make(chan error, 1)
	go func() {
		served <- d.api.Serve(ln)
		close(served)
	}()
	why, err := d.start(ctx, ln)
	if err == nil && why == goOn {
		why, err = d.serve(ctx, served)
	}
	// The listener is closed before anything that takes time: rbee's keeper
	// kills by name what still answers a second after it asked for a shutdown.
	d.closeAPI(served)
	if d.hive == nil {
		return err
	}
	return errors.Join(err, d.finish(why))
}

// prepare makes what the state needs before it is opened.
func (d *daemon) prepare(exe string) error {
	if err := prepareDataDir(d.cfg.DataDir); err != nil {
		return err
	}
	self, err := workerProgram(exe, d.cfg.DataDir)
	if err != nil {
		return err
	}
	return d.makeCatalog(self)
}

// makeCatalog reads the worker types; self is the program of the reference worker.
func (d *daemon) makeCatalog(self string) (err error) {
	d.catalog, err = catalog.New(d.cfg.Workers, self)
	if err != nil {
		return &config.Error{Source: d.cfg.File, Reason: err.Error()}
	}
	return nil
}

// askShutdown is called by POST /v1/shutdown; asking twice is the same.
func (d *daemon) askShutdown() {
	select {
	case d.shutdown <- struct{}{}:
	default:
	}
}
