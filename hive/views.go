package hive

import (
	"time"

	"rbeehive/alloc"
	"rbeehive/store"
)

// Status is how far the daemon is.
type Status struct {
	Serving bool // recovery is done
	Done    int  // records judged so far
	Total   int  // records to judge
}

// Recovery is what the last recovery did. Adopted, Freed and Restarted count workers.
type Recovery struct {
	Took       time.Duration
	Adopted    int
	Freed      int
	Restarted  int
	Unverified int
	// Orphans counts processes that carry a proof of membership and have no
	// record; nil until the sweep after recovery has run.
	Orphans *int
}

// Info describes the hive.
type Info struct {
	HiveID    string
	Version   string
	StateID   string
	StartedAt time.Time
	APIPort   uint16 // the first of the API; 0: it has none
	Recovery  Recovery
}

// JobFilter selects jobs. The zero value selects all.
type JobFilter struct {
	State     store.JobState
	Operation string
	Limit     int    // at most this many; 0: 100
	After     string // job id of the last job of the page before
}

// PortsView is the port range, looked at when asked: the counts sum to Total.
type PortsView = alloc.Survey
