package lease

import (
	"fmt"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/input"
	"rbeehive/store/plain"
)

// Holder says what keeps a lease alive: the process PID, or renewals within TTL.
// One of the two is set, except in a renewal that changes nothing.
type Holder struct {
	PID       int
	StartTime uint64 // clock ticks since boot (proc_pid_stat(5), field 22) that PID must have; 0: whatever it has
	TTL       time.Duration
}

// Request asks for a lease for a program that hive does not start.
type Request struct {
	Holder
	Port  uint16 // this port and no other; 0: any of the range
	Ports int    // how many in a row; 0 is 1
	Owner string // for people; may be empty
}

// Renewal renews a lease, or binds it to another holder.
type Renewal struct {
	Holder
	LeaseID string
}

// Bounds of a ttl: below, a busy machine could not renew in time; above, a port
// would be lost for days with its holder.
const (
	minTTL = time.Second
	maxTTL = 24 * time.Hour
)

// DecodeRequest reads the body of an acquisition. Errors are *errdefs.InputError.
func DecodeRequest(body []byte) (Request, error) {
	var r Request
	f, err := input.Object(body, `{"ttl": "30s"}`)
	if err != nil {
		return r, err
	}
	if err := f.Only("a lease", []string{"pid", "start_time", "ttl", "port", "ports", "owner"}); err != nil {
		return r, err
	}
	if r.Holder, err = holder(f); err != nil {
		return r, err
	}
	if r.PID == 0 && r.TTL == 0 {
		return r, errdefs.BadField("pid", `is required, or ttl: what keeps the lease alive, as in {"pid": 4711} or {"ttl": "30s"}`)
	}
	if r.Port, err = f.Port(); err != nil {
		return r, err
	}
	// There a program could pose as a service of the machine.
	if r.Port != 0 && r.Port < input.MinPort {
		return r, errdefs.BadField("port", fmt.Sprintf("is %d; below %d only a worker gets a port, if its entry has it (port in hive.yaml)", r.Port, input.MinPort))
	}
	ports, err := f.Number("ports", 1, catalog.MaxPorts)
	if err != nil {
		return r, err
	}
	r.Ports = int(ports) //nolint:gosec // bounded by number
	if r.Owner, err = f.Text("owner"); err == nil {
		err = checkOwner(r.Owner)
	}
	return r, err
}

// DecodeRenewal reads the body of a renewal. Errors are *errdefs.InputError.
func DecodeRenewal(body []byte) (Renewal, error) {
	var r Renewal
	f, err := input.Object(body, `{"lease_id": "..."}`)
	if err != nil {
		return r, err
	}
	if err := f.Only("a renewal", []string{"lease_id", "pid", "start_time", "ttl"}); err != nil {
		return r, err
	}
	if r.LeaseID, err = f.Text("lease_id"); err != nil {
		return r, err
	}
	if r.LeaseID == "" {
		return r, errdefs.BadField("lease_id", "is required: the proof of holding that the acquisition gave")
	}
	r.Holder, err = holder(f)
	return r, err
}

// holder reads pid with start_time, or ttl; neither is no error here.
func holder(f input.Fields) (Holder, error) {
	var h Holder
	pid, err := f.Number("pid", 1, input.MaxPID)
	if err != nil {
		return h, err
	}
	if h.StartTime, err = f.Number("start_time", 1, 1<<63); err != nil {
		return h, err
	}
	text, err := f.Text("ttl")
	if err != nil {
		return h, err
	}
	h.PID = int(pid) //nolint:gosec // bounded by number
	switch {
	case h.PID != 0 && text != "":
		return h, errdefs.BadField("ttl", "cannot be given with pid: the lease lives as long as the process, or as it is renewed")
	// The pid was forgotten: a ttl lease is not what the caller wants.
	case h.PID == 0 && h.StartTime != 0:
		return h, errdefs.BadField("start_time", "is nothing without pid")
	case text == "":
		return h, nil
	}
	h.TTL, err = time.ParseDuration(text)
	if err != nil || h.TTL < minTTL || h.TTL > maxTTL {
		return h, errdefs.BadField("ttl", fmt.Sprintf("is %q; expected a duration with a unit from %s to %s, such as 30s", plain.Short(text), minTTL, "24h"))
	}
	return h, nil
}

func checkOwner(owner string) error {
	if len(owner) > 128 {
		return errdefs.BadField("owner", "is longer than 128 bytes")
	}
	if flaw := plain.Flaw(owner); flaw != "" {
		return errdefs.BadField("owner", flaw)
	}
	return nil
}
