package hive

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/alloc"
	"rbeehive/hive/catalog"
	"rbeehive/hive/logs"
)

// Shutdown says what happens to the workers when the daemon stops.
type Shutdown string

// What can happen to the workers when the daemon stops.
const (
	ShutdownKeep Shutdown = "keep"
	ShutdownStop Shutdown = "stop"
)

// Orphans says what happens to processes that an ended lease has left behind.
type Orphans string

// What can happen to processes that an ended lease has left behind.
const (
	OrphansKeep Orphans = "keep"
	OrphansKill Orphans = "kill"
)

// Config is all a Hive is made from. Zero durations and counts take the
// defaults that each field names.
type Config struct {
	HiveID   string   // default: localhost
	Version  string   // shown in Info
	DataDir  string   // state directory, absolute; it must exist
	URL      string   // what others reach the API by
	QueenURL string   // whom the hive is announced to; empty: nobody
	APIPorts []uint16 // ports the API listens on; never leased
	Ports    PortsConfig
	Jobs     JobsConfig
	Catalog  *catalog.Catalog
	// ReloadTypes has the hive take over the worker types as they are in types.d now
	// (Reload), and nothing else. It blocks as Reload does. A mistake in them is an
	// *InputError; nothing is changed then. Nil: worker_install is not supported.
	ReloadTypes func(context.Context) error
	Shutdown    Shutdown // default: keep
	// StartParallel is how many autostart entries are started at once; default 2.
	StartParallel int
	// WorkersKeep is how long a dead worker's record and log stay, at least
	// those of the last 50; default 24 h.
	WorkersKeep time.Duration
	Logs        logs.Config // defaults: logs of 64 MiB with 3 rotated files, 2 GiB in all
	Backup      BackupConfig
	Models      ModelsConfig
	// AuditInterval is how often records, processes and listeners are compared; default 30 s.
	AuditInterval time.Duration
	Orphans       Orphans // default: keep
	// HeartbeatEvery is how often those who listen are told what workers use; default 1 s.
	HeartbeatEvery time.Duration
	// TakeOver accepts a state file that belongs to another machine.
	TakeOver bool
	Log      *logrus.Logger
}

// PortsConfig is the port pool.
type PortsConfig struct {
	Range    alloc.Range // default: 8080-9999
	Reserved []alloc.Range
	Policy   alloc.Policy // default: lowest
	// Quarantine is how long a port is not given out unasked after its release.
	Quarantine time.Duration
	// PerUser is how many ports one caller who is no admin may have leased at a time
	// for programs of their own; default 64.
	PerUser int
}

// JobsConfig bounds the jobs.
type JobsConfig struct {
	Retention   time.Duration // how long an ended job stays at most; default 168 h
	Keep        int           // how many jobs that have ended stay, besides those that just have: beyond it the oldest go; default 10,000
	MaxQueued   int           // unfinished jobs beyond it are refused; default 10,000
	MaxQueueAge time.Duration // a job that waited longer over a restart is expired; default 10 m
	StreamWait  time.Duration // longest life of an rbee stream of a running job; default 25 s
}

// ModelsConfig says where models are, and where they come from.
type ModelsConfig struct {
	Dir      string // absolute; default: models in DataDir
	Endpoint string // the hub; default: models.DefaultEndpoint
	Token    string // for the hub only; never logged; empty: none
	// Free is how many bytes can be written to a directory; nil: ask the system.
	Free func(dir string) (int64, error)
}

// Settings is what of a Config can be changed while the hive runs. Zero values
// take the defaults of Config.
type Settings struct {
	Jobs          JobsConfig
	StartParallel int
	WorkersKeep   time.Duration
	Orphans       Orphans
	LogsMaxTotal  int64
	Backup        BackupConfig
	QueenURL      string // empty: none
}

func (c *Config) settings() Settings {
	return Settings{Jobs: c.Jobs, StartParallel: c.StartParallel, WorkersKeep: c.WorkersKeep, Orphans: c.Orphans, LogsMaxTotal: c.Logs.MaxTotal, Backup: c.Backup, QueenURL: c.QueenURL}
}

func (s *Settings) complete() {
	setDefault(&s.StartParallel, 2)
	setDefault(&s.Orphans, OrphansKeep)
	setDefault(&s.WorkersKeep, 24*time.Hour)
	setDefault(&s.LogsMaxTotal, 2<<30)
	setDefault(&s.Backup.Keep, 7)
	setDefault(&s.Jobs.Retention, 168*time.Hour)
	setDefault(&s.Jobs.Keep, 10000)
	setDefault(&s.Jobs.MaxQueued, 10000)
	setDefault(&s.Jobs.MaxQueueAge, 10*time.Minute)
	setDefault(&s.Jobs.StreamWait, 25*time.Second)
}

// changes returns the keys of the settings that differ.
func (s Settings) changes(next Settings) []string {
	keys := []string{}
	for _, k := range []struct {
		key     string
		differs bool
	}{
		{"audit.orphans", s.Orphans != next.Orphans},
		{"backup.interval", s.Backup.Interval != next.Backup.Interval},
		{"backup.keep", s.Backup.Keep != next.Backup.Keep},
		{"jobs.keep", s.Jobs.Keep != next.Jobs.Keep},
		{"jobs.max_queue_age", s.Jobs.MaxQueueAge != next.Jobs.MaxQueueAge},
		{"jobs.max_queued", s.Jobs.MaxQueued != next.Jobs.MaxQueued},
		{"jobs.retention", s.Jobs.Retention != next.Jobs.Retention},
		{"jobs.stream_wait", s.Jobs.StreamWait != next.Jobs.StreamWait},
		{"logs.max_total", s.LogsMaxTotal != next.LogsMaxTotal},
		{"queen_url", s.QueenURL != next.QueenURL},
		{"start_parallel", s.StartParallel != next.StartParallel},
		{"workers_keep", s.WorkersKeep != next.WorkersKeep},
	} {
		if k.differs {
			keys = append(keys, k.key)
		}
	}
	return keys
}

func (c *Config) complete() error {
	switch {
	case c.DataDir == "":
		return errors.New("hive: no data directory given")
	case c.Catalog == nil:
		return errors.New("hive: no catalog of worker types given")
	case c.Log == nil:
		return errors.New("hive: no logger given")
	}
	setDefault(&c.HiveID, "localhost")
	setDefault(&c.Shutdown, ShutdownKeep)
	setDefault(&c.AuditInterval, 30*time.Second)
	setDefault(&c.HeartbeatEvery, time.Second)
	setDefault(&c.Logs.MaxSize, 64<<20)
	setDefault(&c.Logs.Keep, 3)
	if err := c.Logs.Validate(); err != nil {
		return fmt.Errorf("hive: logs: %w", err)
	}
	setDefault(&c.Models.Dir, filepath.Join(c.DataDir, "models"))
	setDefault(&c.Ports.Range, alloc.Range{First: 8080, Last: 9999})
	setDefault(&c.Ports.Policy, alloc.Lowest)
	setDefault(&c.Ports.PerUser, 64)
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
