// Package workertype shows the worker types that are configured, with what a spawn of
// each would do and whether its program is here, checks spawns against them, and installs
// and removes types of presets. It runs programs only to ask them for their versions, as
// the users of the types and within a time.
//
// It may touch the files of types.d, and the record of a job of its own; it changes no
// worker. What is read of a program is read with the rights of the type's user.
package workertype

import (
	"context"

	"rbeehive/hive/catalog"
	"rbeehive/hive/journal"
	"rbeehive/hive/launch"
	"rbeehive/hive/lock"
	"rbeehive/hive/run"
	"rbeehive/store"
)

// Options are what Types are made from. All but Reload are needed.
type Options struct {
	Run       *run.State
	Journal   *journal.Journal
	Launcher  *launch.Launcher
	Catalog   func() *catalog.Catalog // as it is now
	Live      func() []store.Worker   // the workers that live
	DataDir   string
	Version   string // of hive, which is that of the types it runs itself
	FirstPort uint16 // of the pool, for an example
	// Reload has the hive take over the types as they are in types.d now, and nothing
	// else. A mistake in them is an *errdefs.InputError; nothing is changed then. Nil:
	// types are not installed here.
	Reload func(context.Context) error
}

// Types are the worker types of a hive. Their methods are safe for concurrent use.
type Types struct {
	run       *run.State
	journal   *journal.Journal
	launcher  *launch.Launcher
	catalog   func() *catalog.Catalog
	live      func() []store.Worker
	dataDir   string
	version   string
	firstPort uint16
	reload    func(context.Context) error

	versions *versions
	sums     sums
	installs lock.Ranked[lock.Installs] // one installation or removal at a time
}

// New returns the types.
func New(o Options) *Types {
	return &Types{
		run: o.Run, journal: o.Journal, launcher: o.Launcher, catalog: o.Catalog, live: o.Live,
		dataDir: o.DataDir, version: o.Version, firstPort: o.FirstPort, reload: o.Reload, versions: newVersions(),
	}
}
