package kv

// Bucket is the name of a top-level bucket. There are no nested ones: the undo
// log knows keys, not buckets.
type Bucket string

// The buckets. What is in them is in the doc comment of package store.
const (
	Meta     Bucket = "meta"
	Leases   Bucket = "leases"
	PIDs     Bucket = "pids"
	Ended    Bucket = "ended"
	Workers  Bucket = "workers"
	Names    Bucket = "names"
	Jobs     Bucket = "jobs"
	Events   Bucket = "events"
	ByJob    Bucket = "byjob"
	ByWorker Bucket = "byworker"
	Keys     Bucket = "keys"
)

// Buckets returns all of them, in the order of package store's doc comment.
func Buckets() []Bucket {
	return []Bucket{Meta, Leases, PIDs, Ended, Workers, Names, Jobs, Events, ByJob, ByWorker, Keys}
}

// Keys of the bucket Meta. "schema" is written by package migrations only.
const (
	KeySchema      = "schema"
	KeyStateID     = "state_id"
	KeyIncarnation = "incarnation"
	KeyMachineID   = "machine_id"
	KeyFile        = "file"
	KeyCreatedAt   = "created_at"
	KeyCursor      = "cursor"
	KeyPruned      = "pruned"
	KeyQueen       = "queen"
	KeySecret      = "secret"
	KeyRun         = "run"
)
