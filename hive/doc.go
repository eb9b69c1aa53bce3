// Package hive is the daemon: it starts workers, leases each one a port, keeps
// what it knows in the state file, and takes the workers back after it was
// stopped, killed or upgraded.
//
// # Model
//
// A Hive goes through four steps, in this order:
//
//	Open     opens and migrates the state file; no process is looked at
//	Recover  compares the records with the processes; when it returns, Submit works
//	Run      begins what recovery left for later, then reviews and prunes every AuditInterval
//	Close    lets go of the workers, which keep running, and closes the file
//
// While anything happens to a worker, one supervisor goroutine attends to it and
// is the only writer of its state: it follows readiness, sees the exit, and
// carries out a stop. Everybody else reads an immutable snapshot of the record,
// or hands the supervisor a request and waits. The looks at the port and at /proc
// run beside it, one at a time, so that it is always free to see an exit or a
// stop. A worker that is ready and left in peace has no supervisor, only the
// goroutine in which proc waits for its exit; an exit or a stop calls one. An
// unverified worker has none either: the review decides about it.
//
// A job is one submitted operation. It is durable before Submit returns, one
// goroutine carries it out, and its events are in the file: a listener reads
// them there, from the beginning or from any number on, and is only woken by
// memory. Operations that only list are answered from memory and never written.
//
// What to do is decided apart from doing it: following.judge (ready.go) turns
// sightings into a verdict and found.judge (recover.go) records into adopt, free
// or keep.
//
// # Spawn
//
//  1. The program is looked up; nothing is leased yet.
//  2. alloc reserves and probes a port. Nothing is written.
//  3. proc.Start makes the child. It has its PID and waits behind the gate.
//  4. ONE transaction records lease, PID mapping, worker (spawning), job and events.
//  5. The gate opens and the same PID executes the program. The record says
//     running with the worker's next commit.
//  6. The supervisor looks until the listener on the port is a member of the
//     worker, the probe gives the expected answer, and the listeners were the same
//     before and after it: ready. A stranger on the port, a worker on another
//     port, no progress for ready.stall or ready.timeout ends the worker; after a
//     stranger the next port is tried, three in all.
//
// A hive that dies before 4 leaves a child that sees end of file and exits;
// between 4 and 5 a record of a dead process; after 5 a worker to adopt.
//
// # Stop
//
// "stopping" is recorded first, then the tree is ended (proc.Tree.Stop), then
// the port is looked at. If nobody is left and nothing listens, one transaction
// ends lease, PID mapping and worker. Otherwise the lease stays, quarantined. A
// worker whose main process ended by itself goes the same way: what remains of
// its tree is ended first.
//
// # Recovery
//
// Every recorded process is judged by its identity. Alive: adopted. Dead: what
// remains of its tree is ended and its port freed, or quarantined if somebody
// can still be reached there. Unknown (it cannot be looked at, another hive
// claims its port, or the 15 s were over): unverified; it keeps its port and
// is not touched. One transaction writes all of it and settles the jobs: a spawn
// that ran and whose worker lives has succeeded, any other that ran is
// interrupted, queued ones stay queued up to Jobs.MaxQueueAge. Stops that were
// under way, queued jobs, the sweep for processes without a record and the full
// check of the file begin with Run.
//
// # Review
//
// Every AuditInterval Run judges unverified workers again, and frees a
// quarantined port when nobody was found on it in two reviews in a row (so too the
// lease of a worker that has ended, which only a mended file can hold). It also
// removes ended jobs, dead workers with their logs, and tombstones that are old.
//
// # Guarantees
//
//   - No program runs that has no record. A kill -9 at any moment leaves a worker
//     that is known, or no process.
//   - A port is freed only when its holder is proven dead, its tree is ended and
//     nothing listens; never because time ran out.
//   - A process is signalled only through a pidfd that was verified after it was
//     opened. An unverified worker is never signalled; neither is anything in the
//     first start with a copied or restored file.
//   - What a job says when it reads succeeded or failed is visible in the workers
//     and leases, and stays so over a crash.
//   - After an error of a commit nothing more is written: Run returns the error.
//   - Values of a worker's environment are never stored or shown.
//
// # Caveats
//
//   - A worker that was ready is followed by its exit only: that it no longer
//     answers is not noticed. Nothing is restarted.
//   - A program whose port somebody else listens on for it (the client of a
//     container runtime) is taken for one with a stranger on its port.
//   - Without a cgroup, ending a tree that keeps forking is best effort; what is
//     left shows as stop_incomplete and a quarantined port.
//   - A job that was running when hive died reads interrupted although what it was
//     for may have been done, or is done after the restart: a stop is gone on with.
//   - The sweep reports processes without a record and leaves them alone.
//   - The daemon runs on Linux only; elsewhere the package compiles.
package hive
