package hive

import (
	"time"
)

// Status is how far the daemon is.
type Status struct {
	Serving bool // recovery is done
	Done    int  // records verified so far
	Total   int  // records to verify
	// Fault says for a person why a hive that serves cannot do its work; empty if it can.
	Fault string
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

// Status tells how far the daemon is. It does not block.
func (h *Hive) Status() Status {
	return Status{Serving: h.run.Serving(), Done: int(h.progress.done.Load()), Total: int(h.progress.total.Load()), Fault: h.upkeep.health.Fault()}
}

// Info describes the hive. It does not block.
func (h *Hive) Info() Info {
	i := Info{HiveID: h.cfg.HiveID, Version: h.cfg.Version, StateID: h.store.Meta().StateID, StartedAt: h.progress.started}
	if len(h.cfg.APIPorts) > 0 {
		i.APIPort = h.cfg.APIPorts[0]
	}
	if r := h.progress.recovery.Load(); r != nil {
		i.Recovery = *r
	}
	return i
}
