package main

import (
	"context"
	"io"
	"net"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/alloc"
	"rbeehive/cmd/hive/config"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// Names for the external tests.
var (
	Run            = run
	PrepareDataDir = prepareDataDir
	GrantTraversal = grantTraversal
	WorkerProgram  = workerProgram
	LoadToken      = loadToken
	ListenSocket   = listenSocket
	MustEndWithin  = mustEndWithin
)

// PlainMessage is the formatter of hive's log.
func PlainMessage(f *logrus.TextFormatter) logrus.Formatter { return plainMessage{f} }

// MaxOutputLines is how many lines of hive's own wait to be written.
const MaxOutputLines = maxOutputLines

// Output is a stream of hive's own.
type Output = output

// NewOutput begins to write to a stream.
func NewOutput(to io.Writer) *Output { return newOutput(to) }

// OnResumed has tell told how many writes were dropped, when they succeed again.
func (o *output) OnResumed(tell func(lost uint64)) { o.resumed.Store(&tell) }

// Lost is how many writes were dropped.
func (o *output) Lost() uint64 { return o.lost.Load() }

// Finish waits until what was written has gone out, at most for limit.
func (o *output) Finish(limit time.Duration) { o.finish(limit) }

// RunStuck is Run with a hive that is stuck as long as the file exists: it does not
// come to an end of looking whether it lives.
func RunStuck(args []string, stdout, stderr io.Writer, file string) int {
	return runWith(args, stdout, stderr, func(h *hive.Hive, ctx context.Context) error {
		for _, err := os.Stat(file); err == nil; _, err = os.Stat(file) {
			time.Sleep(time.Millisecond) // stuck, whatever ctx says
		}
		return h.Alive(ctx)
	})
}

// ListenControl opens the control socket of a hive that has some TCP listeners, and
// returns what hivectl is told.
func ListenControl(ctx context.Context, cfg *config.Config, log io.Writer, tcp ...net.Listener) (addr string, err error) {
	logger := logrus.New()
	logger.SetOutput(log)
	d := newDaemon(cfg, nil, nil, logger, io.Discard, nil)
	d.listeners.tcp = tcp
	if err := d.listenSockets(ctx); err != nil {
		return "", err
	}
	return localAddr(cfg, &d.listeners), nil
}

// Banner is what a banner is made of.
type Banner struct {
	HiveID, URL, File, DataDir string
	Listen, TokenFile, Local   string
	Recovery                   hive.Recovery
	Ports                      alloc.Survey
	Workers                    []store.Worker
	Types                      []*catalog.Type
	Alone, Service             bool
}

// Write prints the banner.
func (b Banner) Write(w io.Writer) error {
	return (&banner{
		callers: callers{listen: b.Listen, tokenFile: b.TokenFile, local: b.Local},
		hiveID:  b.HiveID, url: b.URL, file: b.File, dataDir: b.DataDir,
		recovery: b.Recovery, ports: b.Ports, workers: b.Workers, types: b.Types, isInit: b.Alone,
		hivectl: "bin/hivectl", service: b.Service,
	}).writeTo(w)
}
