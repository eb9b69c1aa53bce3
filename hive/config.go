package hive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/alloc"
	"rbeehive/hive/catalog"
	"rbeehive/hive/logs"
	"rbeehive/hive/setting"
)

// Shutdown says what happens to the workers when the daemon stops.
type Shutdown string

// What can happen to the workers when the daemon stops.
const (
	ShutdownKeep Shutdown = "keep"
	ShutdownStop Shutdown = "stop"
)

// Config is all a Hive is made from. The tags are those of package setting: zero values take
// the defaults there, or those that a field names.
type Config struct {
	Settings             // what of it a Reload can change
	HiveID   string      `key:"hive_id" default:"localhost"`
	Version  string      // shown in Info
	DataDir  string      `key:"data_dir"` // state directory, absolute; it must exist
	URL      string      // what others reach the API by
	APIPorts []uint16    // ports the API listens on; never leased
	Ports    PortsConfig `key:"ports"`
	Catalog  *catalog.Catalog
	// ReloadTypes has the hive take over the worker types as they are in types.d now
	// (Reload), and nothing else. It blocks as Reload does. A mistake in them is an
	// *errdefs.InputError; nothing is changed then. Nil: worker_install is not supported.
	ReloadTypes func(context.Context) error
	Shutdown    Shutdown     `key:"shutdown" default:"keep" oneof:"keep stop"`
	Logs        logs.Config  `key:"logs"`
	Models      ModelsConfig `key:"models"`
	// AuditInterval is how often records, processes and listeners are compared.
	AuditInterval time.Duration `key:"audit.interval" default:"30s" min:"1s"`
	// HeartbeatEvery is how often those who listen are told what workers use.
	HeartbeatEvery time.Duration `default:"1s"`
	// TakeOver accepts a state file that belongs to another machine.
	TakeOver bool
	Log      *logrus.Logger
}

// PortsConfig is the port pool.
type PortsConfig struct {
	Range    alloc.Range   `key:"range" default:"8080-9999" want:"ports from 1 to 65535, as in 8080-9999"`
	Reserved []alloc.Range `key:"reserved" want:"a port or a range of ports, as in 8188 or 9000-9010"`
	Policy   alloc.Policy  `key:"policy" default:"lowest" oneof:"lowest sequential"`
	// Quarantine is how long a port is not given out unasked after its release.
	Quarantine time.Duration `key:"quarantine" min:"0s"`
	// PerUser is how many ports one caller who is no admin may have leased at a time
	// for programs of their own.
	PerUser int `key:"per_user" default:"64" min:"1"`
}

// ModelsConfig says where models are, and where they come from.
type ModelsConfig struct {
	Dir      string `key:"dir"`      // absolute; default: models in DataDir
	Endpoint string `key:"endpoint"` // the hub; default: models.DefaultEndpoint
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
	setting.Complete(c)
	if err := c.Logs.Validate(); err != nil {
		return fmt.Errorf("hive: logs: %w", err)
	}
	c.Models.Dir = cmp.Or(c.Models.Dir, filepath.Join(c.DataDir, "models"))
	return nil
}
