// Package rbee announces a hive to queens, rbee's schedulers: a queen subscribes to
// the hive's telemetry when it has been told that there is one.
//
// There are at most two queens at a time: the configured one, and the last that has
// introduced itself. Each is told until it has heard (tries after 0, 2, 4, 8 and 16
// seconds, then every minute), and not again while anybody listens to the telemetry,
// because a queen takes every announcement for another hive. When nobody has listened
// for two minutes it has forgotten the hive, after a restart perhaps, and is told again.
// A queen that only introduced itself is given up when it is not reached for an hour.
//
// # Caveats
//
//   - Who listens is not known: any listener keeps both queens from being told again.
//   - An announcement is one POST with a fixed body to a URL that a caller can name
//     (Meet). Who may do that is for the caller of this package to decide. No redirect
//     is followed, no proxy used, and nothing of the answer but its status looked at.
package rbee
