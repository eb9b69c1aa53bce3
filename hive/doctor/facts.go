package doctor

import (
	"time"

	"rbeehive/alloc"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Fact is what was read, or why it could not be. Without an error the value holds.
type Fact[T any] struct {
	Value T
	Err   error
}

// FactOf makes a Fact of what a function returns.
func FactOf[T any](v T, err error) Fact[T] { return Fact[T]{v, err} }

// Facts is all that the checks decide on.
type Facts struct {
	Now           time.Time // taken last: no record is younger, unless the clock was turned back
	DataDir       string
	AuditInterval time.Duration // how often quarantined ports and unverified workers are examined again

	Range    alloc.Range
	Reserved []alloc.Range // ports that are never leased
	Survey   Fact[alloc.Survey]
	Leases   Fact[[]store.Lease]
	Unleased Fact[map[uint16]string] // the worker that listens on a port without a lease, by port
	Reasons  map[string]string       // why a live worker is in its state, by id
	Wanted   []Wanted                // what should run and could not be started
	Reload   string                  // why the last reload of the configuration failed; empty: it did not
	Orphans  Fact[[]proc.Orphan]     // processes with this hive's stamp that have no record, seen twice
	Cgroups  bool                    // each worker gets a cgroup of its own
	// BoundListed: ports that are bound and not listened on are in the socket table.
	BoundListed Fact[bool]

	File File
	Host Host
}

// Wanted is an autostart entry of which no worker could be started.
type Wanted struct {
	Name    string
	Reason  string
	NextTry time.Time // zero: it is not tried again
}

// File is the state file and what surrounds it.
type File struct {
	Bytes       int64
	Examination *Examination // of the last full check; nil: it is not over
	Relocated   bool         // this is the first start with a file that was copied or restored
	// MetaPageLost: what was recorded last before this start may be missing.
	MetaPageLost bool
	Admits       Fact[bool]  // new work is admitted; false: the disk is full
	DiskFree     Fact[int64] // bytes
	Inodes       Fact[int64] // that are left where DataDir is
	// Records are the latest that bear a time, leases apart.
	Records Fact[[]Record]

	Backups        Fact[Backups]
	BackupError    error         // why the last automatic backup could not be made
	BackupInterval time.Duration // 0: none are made
}

// Examination is the result of a full check of the state file.
type Examination struct {
	At  time.Time
	Err error // all findings, joined
}

// Record is something that hive has recorded, with its time.
type Record struct {
	Name string // "event 17", as it stands in a sentence
	At   time.Time
}
