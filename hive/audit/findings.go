package audit

import "time"

// The codes of findings.
const (
	// FindingUnverified: it cannot be told whether the recorded process is still the holder.
	FindingUnverified = "unverified"
	// FindingQuarantined: the holder is gone, and somebody may still be reached on the port.
	FindingQuarantined = "quarantined"
	// FindingNoHolder: the lease is a worker's that has ended or has no process any more.
	FindingNoHolder = "lease_without_holder"
	// FindingNoRecord: a process carries this hive's mark, and no record knows it.
	FindingNoRecord = "member_without_record"
	// FindingNotListening: nothing listens on the port and address of a worker that was ready.
	FindingNotListening = "not_listening"
	// FindingForeign: somebody else listens on a worker's port and address.
	FindingForeign = "foreign_listener"
	// FindingBeside: somebody else listens on a worker's port, on another address than
	// the worker's. The worker is none the worse for it.
	FindingBeside = "other_address"
	// FindingShared: a worker and somebody else listen on its port (SO_REUSEPORT), and
	// the kernel gives each connection to one of them at random.
	FindingShared = "shared_port"
	// FindingUnleased: a worker listens on a port of the range that it has no lease for.
	FindingUnleased = "unleased_port"
	// FindingContested: another hive on this machine claims a port that is leased here.
	FindingContested = "contested_port"
)

// FindingCodes returns all codes.
func FindingCodes() []string {
	return []string{
		FindingUnverified, FindingQuarantined, FindingNoHolder, FindingNoRecord, FindingNotListening,
		FindingForeign, FindingShared, FindingBeside, FindingUnleased, FindingContested,
	}
}

// Finding is something that records, processes and listeners disagree about.
type Finding struct {
	Code     string
	Port     uint16 // 0: it is about no port
	WorkerID string
	LeaseID  string
	PID      int
	Program  string
	Message  string // one line for a person
	// Since is when it was seen first, Sightings how many audits in a row have seen
	// it. hive acts on the second.
	Since     time.Time
	Sightings int
}

// sameThing is what tells findings apart over several audits.
type sameThing struct {
	code     string
	port     uint16
	workerID string
	leaseID  string
	pid      int
}

func (f *Finding) thing() sameThing {
	return sameThing{f.Code, f.Port, f.WorkerID, f.LeaseID, f.PID}
}
