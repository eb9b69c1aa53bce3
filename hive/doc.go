// Package hive is the daemon: it starts workers, leases each one a port, keeps
// what it knows in the state file, and takes the workers back after it was
// stopped, killed or upgraded.
//
// # Model
//
// A Hive goes through four steps, in this order:
//
//	Open     opens and migrates the state file; no process is looked at
//	Recover  compares the records with the processes, and begins again what was
//	         under way; when it returns, Submit works
//	Run      rotates logs, and reviews and prunes every AuditInterval, until ctx
//	         ends or the hive must
//	Close    lets go of the workers, which keep running, and closes the file
//
// Hive is wiring and recovery. What it consists of are packages of their own, none of
// which knows Hive: supervisor has the workers, jobs the queue, operation the table of
// what can be asked, lease the leases of other programs, journal the transactions with
// their events; audit, doctor, logs, telemetry, tokens and workertype are what they are
// called. Hive makes them (assemble), says when they act (Recover, upkeep), and hands
// callers on to them (api.go). Carrying out the operations on models (models.go),
// autostart, reloads and backups are its own.
//
// While anything happens to a worker, one goroutine supervises it and is the only
// writer of its record: it follows readiness, sees the exit, and carries out a stop.
// Everybody else reads an immutable snapshot of the record, or hands the supervisor a
// request and waits. Probes run beside it, one at a time, so that it is always free to
// see an exit or a stop. A worker that is ready and left in peace has no supervisor,
// only the goroutine in which proc waits for its exit; an exit or a stop calls one. An
// unverified worker has none either: the review decides about it.
//
// A job is one submitted operation. It is durable before Submit returns, one
// goroutine carries it out, and its events are in the file: a listener reads
// them there, from the beginning or from any number on, and is only woken by
// memory. Operations that only list are answered from memory and never written.
//
// What workers use is measured while somebody listens, by one goroutine for all
// listeners (hive/telemetry); it is never written. Who listens is also how the hive
// knows that its queen has not forgotten it (announce.go, hive/rbee).
//
// What to do is decided apart from doing it: lifecycle.Transition is the life of a
// worker, lifecycle.NextStart its restart policy, and probe.Tracker makes a verdict of
// what probes have seen. The Recovery of supervisor, of lease and of jobs finds out what
// is to be adopted, freed or kept, and what became of a job, before any of it is written.
//
// # Spawn
//
//  1. The program is looked up; nothing is leased yet.
//  2. alloc reserves and probes a port. Nothing is written.
//  3. proc.Start makes the child. It has its PID and waits behind the gate.
//  4. ONE transaction records lease, PID mapping, worker (spawning), job and events;
//     only then Submit returns, unless the job had to be recorded before, alone.
//  5. The gate opens and the same PID executes the program. The record says
//     running with the worker's next commit.
//  6. The supervisor probes until the listener on the port is a member of the
//     worker, the probe gives the expected answer, and the listeners were the same
//     before it, when it had connected, and after it: ready. If they are others
//     when it has connected, no request is sent. A stranger on the port, a worker on another
//     port, no progress for ready.stall or ready.timeout ends the worker. After a
//     stranger, or when the program ended because its port was in use, the next
//     port is tried, three in all.
//
// A hive that dies before 4 leaves a child that sees end of file and exits;
// between 4 and 5 a record of a dead process; after 5 a worker to adopt. A Close
// between 4 and 5 waits until the gate is open.
//
// # Stop
//
// "stopping" is recorded first, with the job, then the tree is ended (proc.Tree.Stop), then
// the port is looked at. If nobody is left and nothing listens, one transaction
// ends lease, PID mapping, worker and job. Otherwise the lease stays, quarantined. A
// worker whose main process ended by itself goes the same way: what remains of
// its tree is ended first.
//
// StopWorkers refuses new jobs, cancels the jobs that start workers, waits until
// what they had begun is undone, and then stops every worker that is verified.
//
// # Life
//
// A worker that ends by itself is started again if its restart policy says so: its
// tree is ended, it waits in backoff with its lease and without a process, and the
// same supervisor starts it on the same ports, as the configuration says then,
// behind the gate and with one transaction, as at first. What the kernel keeps of
// closed connections on a port is waited for. A spawn whose port was a stranger's
// tries the next port instead, unless a port was asked for. The times of failures
// are in the record, so the policy counts on over a restart of hive; one that dies
// while hive is down is started by the next. The end of the machine is no failure.
//
// With Spec.Live a timer has a ready worker probed; after enough misses its supervisor
// goes on probing, and shows it as unhealthy or starts it again.
//
// before_start and stop.command are run to their end (proc.Run), and what they leave
// behind is ended. Autostart entries are spawned after recovery by hive/services, StartParallel at
// once, by ordinary jobs.
//
// # Leases of programs that hive does not start
//
// AcquireLease, RenewLease and ReleaseLease (hive/lease): a lease of kind process lives
// as long as the process of a recorded identity, one of kind ttl until its holder has
// not renewed it for its ttl, on CLOCK_BOOTTIME. When the lease ends and somebody still
// listens on one of its ports it is quarantined. Recovery verifies holders as it does
// workers, and gives every ttl lease its whole time again, so a mere renewal is not
// written to the file. Holders are never signalled.
//
// # Recovery
//
// Every recorded process is verified by its identity. Alive: adopted. Dead: what
// remains of its tree is ended and its port freed, or quarantined if somebody
// can still be reached there. Unknown (it cannot be looked at, another hive
// claims its port, what a dead one left behind could not be ended, or the 15 s
// were over): unverified; it keeps its record and its port, and is not touched.
//
// One transaction writes all of it, with what became of the jobs that ran:
//
//   - A spawn has succeeded if its worker lives and was not being stopped.
//   - A restart goes on if its worker had not been started again, whatever its policy:
//     it was ended for that.
//   - A stop goes on if its worker lives, and has succeeded if it is stopped.
//   - Any other is interrupted.
//
// Queued jobs stay queued up to Jobs.MaxQueueAge. Stops that were under way,
// queued jobs, the sweep for processes without a record and the full check of
// the file begin just before the hive serves.
//
// In the first start with a copied or restored file (store.Meta.Relocated) the
// workers may be somebody else's. Nothing adopted is then given up, no stop and no
// restart goes on and nothing that is queued is begun (the job is interrupted: the
// hive that the file is from may have done it), no worker is started again by its
// policy, and of the dead nothing that is left is ended: its port is quarantined.
//
// # Audit
//
// Every AuditInterval records, processes and listeners are compared (hive/audit).
// What is found twice in a row is acted on: a worker that was ready and does not
// listen, or shares its port with a stranger, is probed again by its supervisor
// and is unhealthy until it serves; with Settings.Orphans kill, what ended leases
// have left behind is ended.
//
// Unverified workers are verified again (Review of supervisor and of lease):
// adopted, with a stop that had been asked for, or what they left behind is ended. A quarantined port
// is freed when nobody was found on it in two reviews in a row (so too the lease
// of a worker that has ended, which only a mended file can hold). Then ended
// jobs, dead workers with their logs, and tombstones that are old are removed; a
// dead worker stays as long as its port is quarantined.
//
// # Doctor
//
// Doctor gathers facts about hive's own tables and has package hive/doctor check them,
// together with those of the machine, which that package gathers itself. It does not
// check the file: it tells what the full check after the start has found (examine).
//
// # Logs
//
// A worker appends to its log itself. Rotating, reading and pruning are package logs',
// which hive tells what workers there are. The audit prunes; the logs of quarantined
// ports stay, and those of workers that may be another hive's are left as they are.
//
// # Reload
//
// Reload swaps the catalog and the Settings, each by one pointer. A start asks for
// its type once, so it is by the old catalog or by the new one as a whole; the new
// worker is then compared like any other.
//
// Staleness is decided by the supervisor, which compares when it begins to supervise a
// process and when a reload asks it to: the type that the process was started as with
// what that type is now. What another hive has started is compared
// with its record, which knows nothing of env; the keys that made it stale are in
// the record, and those that cannot be seen there stay until it is restarted. With
// reload: restart the supervisor has a worker_restart job submitted, which is not
// carried out if the worker is not stale any more by then.
//
// # A full disk
//
// What is new is refused (store.ErrDiskFull); stops are admitted from the store's
// reserve. What has happened (an exit, an end, the result of a job) is recorded
// from the reserve too, and when that is used up the commit is tried every 200 ms
// until there is room. Any other error of such a commit ends Run. A log is cut
// when there is no room to copy it.
//
// # Types
//
// Types and TypeInfo (hive/workertype) say what the worker types are and what a spawn
// would do. They change nothing. Only when a version is asked for do they run a program, with the
// arguments its preset knows, for two seconds at most; such a program has no
// record, and the kernel ends it when hive ends.
//
// # Guarantees
//
//   - No worker's program runs that has no record. A kill -9 at any moment leaves a
//     worker that is known, or no process.
//   - A port is freed only when its holder is proven dead, its tree is ended and
//     nothing listens; never because time ran out.
//   - A process is signalled only through a pidfd that was verified after it was
//     opened. An unverified worker is never signalled. In the first start with a
//     copied or restored file a worker it names is ended only on a new request.
//   - No request goes to a stranger: see Spawn, 6, and the caveat.
//   - What a job says when it reads succeeded or failed is visible in the workers
//     and leases, and stays so over a crash.
//   - After an error of a commit nothing more is written, and when something that
//     has happened cannot be recorded nothing more is done: Run returns the error.
//   - Values of a worker's environment are never stored or shown.
//
// # Caveats
//
//   - A worker that was ready is followed by its exit, by the audit, which sees that
//     it does not listen or shares its port, and by Spec.Live, if there is one.
//   - With listener: any (for the client of a container runtime) whoever listens on
//     the port counts as the worker; only that the port was free before is proven.
//   - A worker that listens with SO_REUSEPORT can be joined on its port by a
//     program of the same user. If that one comes, takes the connection of a probe
//     and stops listening, all between two reads of the socket table, it gets the
//     request.
//   - Without a cgroup, ending a tree that keeps forking is best effort; what is
//     left shows as stop_incomplete and a quarantined port.
//   - An interrupted stop may be carried out all the same: of a worker that could
//     not be judged, once it can be.
//   - Processes without a record are reported and, by default, left alone.
//   - Descendants that a worker's process orphans come to hive only if the program
//     made a proc.Reaper, as cmd/hive does.
//   - The daemon runs on Linux only; elsewhere the package compiles.
package hive
