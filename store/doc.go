// Package store keeps what hive knows in one file.
//
// # Model
//
// The file is a bbolt database, schema 1:
//
//	meta/      schema, state_id (uuid), incarnation (bumped by restore, salvage and take-over), machine_id,
//	           file (device, inode, time of creation), created_at, cursor (policy sequential),
//	           pruned (the highest number of an event that was ever removed),
//	           queen (URL of the last that introduced itself), secret (by which stamps are proven),
//	           token/<name> -> Token (who may call; of the secret its SHA-256 only)
//	leases/    <port BE16>                           -> Lease
//	pids/      <pid BE32><port BE16>                 -> lease id (the PID <-> port mapping)
//	ended/     <time ms BE64><lease_id><port BE16>   -> Tombstone, kept 7 days, at most 8192
//	workers/   <worker_id>                           -> Worker
//	names/     <worker name>                         -> port (a named worker keeps its port; a port has one name, the last)
//	jobs/      <job_id>                              -> Job
//	events/    <seq BE64>                            -> Event (one sequence for the whole hive; in it the number in its job)
//	byjob/     <job_id> 00 <seq BE64>                -> nothing (index into events/)
//	byworker/  <worker_id> 00 <seq BE64>             -> nothing (index into events/)
//	keys/      <idempotency key>                     -> Keyed (its job, as long as that has a record)
//
// Every value is an envelope: a format byte, a CRC-32C over bucket, key and payload, the
// payload as JSON. bbolt has no checksums on its pages, only on the two meta pages. View
// reads a snapshot. Update writes: one goroutine takes every waiting call, runs them in one
// transaction and commits once for all (group commit). A single call does not wait for
// others. Keys are flat and buckets are made by migrations only, so that the writes of one
// call can be undone alone.
//
// # Guarantees
//
//   - When Update returns nil, what it wrote survives a crash and a power loss.
//   - A function given to Update runs exactly once, and wholly or not at all.
//   - A commit error stops the store (Failed): it does not mean that nothing was
//     written, so nothing more is written over it.
//   - A full disk is detected before a commit, not in it: Update refuses with ErrDiskFull
//     while UpdateReserved still works, until its reserve is used up too. Both recover by
//     themselves.
//   - A file is written by one process. A copy of the directory of a running
//     hive is refused; a copy of one that does not run becomes a state of its own.
//   - A damaged record is an error that names it, never a wrong record. Open checks the
//     structure of the whole file and the checksums of meta, leases, PIDs, workers and
//     names; every other record is verified when it is read.
//
// # Caveats
//
//   - If the newest meta page is damaged, bbolt goes back one transaction. That
//     is what makes a torn commit harmless, and a later flip in that page cannot
//     be told from it: the last commit may be lost then (Meta.MetaPageLost).
//   - Damage that appears in the mapped file while it is open can end the process where it
//     cannot be caught (a page that became its own child runs out of stack). The next start
//     checks the file and says what is wrong.
//   - Preallocation does not hold on file systems that never overwrite in place
//     (btrfs, ZFS, a file with reflinks), and where it does not exist the free
//     space of the file system stands for it. A full disk can then still fail a
//     commit. Outside Linux nothing is known about space.
//   - The claim on the state id is an abstract socket: it is seen within one
//     network namespace. A change of device numbers over a reboot looks like a
//     copied file, which costs a new state id and nothing else.
//   - A restore that overwrites the file in place is not seen as one.
package store
