// Package journal commits what happens in a hive: a transaction of the state file
// together with the events that tell of it, and wakes those who wait for them once it is
// durable.
//
// # Commits
//
// There are three ways to commit, by what an error means:
//
//   - Commit: something new that was asked for. A full disk refuses it, and so does a
//     caller who goes away while it is queued. CommitReserved is Commit for what makes
//     room or ends something: it may use the reserve of a full disk.
//   - CommitRequired: something that has happened already. It is tried until there is
//     room on the disk; any other error means that the file does not hold what it must,
//     and ends the hive (Broken).
//   - CommitBestEffort: something that can as well be done later, such as pruning.
//
// Who commits must not hold a lock of a table (docs/locks.md).
//
// # Events
//
// A listener reads events from the file, a page at a time, and is only woken by a
// commit. So a slow one delays nobody and holds no transaction, and a wake-up that is
// missed loses nothing.
//
// The package knows events and transactions, and neither jobs nor workers. All methods
// are safe for concurrent use.
package journal
