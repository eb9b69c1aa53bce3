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

// Config is all a Hive is made from. Zero durations and counts take the
// defaults that each field names.
type Config struct {
	Settings          // what of it a Reload can change
	HiveID   string   // default: localhost
	Version  string   // shown in Info
	DataDir  string   // state directory, absolute; it must exist
	URL      string   // what others reach the API by
	APIPorts []uint16 // ports the API listens on; never leased
	Ports    PortsConfig
	Catalog  *catalog.Catalog
	// ReloadTypes has the hive take over the worker types as they are in types.d now
	// (Reload), and nothing else. It blocks as Reload does. A mistake in them is an
	// *errdefs.InputError; nothing is changed then. Nil: worker_install is not supported.
	ReloadTypes func(context.Context) error
	Shutdown    Shutdown    // default: keep
	Logs        logs.Config // defaults: logs of 64 MiB with 3 rotated files
	Models      ModelsConfig
	// AuditInterval is how often records, processes and listeners are compared; default 30 s.
	AuditInterval time.Duration
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

// ModelsConfig says where models are, and where they come from.
type ModelsConfig struct {
	Dir      string // absolute; default: models in DataDir
	Endpoint string // the hub; default: models.DefaultEndpoint
	Token    string // for the hub only; never logged; empty: none
	// Free is how many bytes can be written to a directory; nil: ask the system.
	Free func(dir string) (int64, error)
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
	c.Settings.complete()
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
