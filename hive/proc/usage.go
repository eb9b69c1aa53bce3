package proc

import "time"

// Usage is what a tree has used between two measurements, and what it holds now.
type Usage struct {
	// Over is the time between the measurements; 0 at the first of a tree, of which
	// CPU, Read and Written are nothing then.
	Over time.Duration
	// CPU is the time used by all of its processes, those that have ended included.
	CPU time.Duration
	// Read and Written are bytes from and to storage. 0 where the system does not
	// tell: of a process of another user without CAP_SYS_PTRACE.
	Read, Written uint64
	// RSS is the resident memory of its processes in bytes, summed: a page that
	// several of them share counts once for each.
	RSS uint64
	// PIDs are its living processes, the main process included.
	PIDs []int
}
