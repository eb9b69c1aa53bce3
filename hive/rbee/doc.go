// Package rbee announces a hive to queens, rbee's schedulers: a queen subscribes to the
// telemetry of a hive that has announced itself.
//
// There are at most two queens at a time: the configured one, and the last that has
// introduced itself. The hive announces itself to each until that succeeds (tries after
// 0, 2, 4, 8 and 16 seconds, then every minute), and not again while anybody listens to
// the telemetry, because a queen takes every announcement for another hive. When nobody
// has listened for two minutes, the queen has forgotten the hive, after a restart
// perhaps, and the hive announces itself again. A queen that only introduced itself is
// dropped when it cannot be reached for an hour.
//
// # Caveats
//
//   - Who listens is not known: any listener keeps the hive from announcing itself again
//     to either queen.
//   - An announcement is one POST with a fixed body to a URL that a caller can name
//     (Introduce). Who may do that is for the caller of this package to decide. No
//     redirect is followed, no proxy used, and only the status of the response counts.
package rbee
