// Package salvage rebuilds a state file from what can still be read of a damaged one, from
// the newest good backup, and from what living workers say by themselves, so that hive
// adopts every running worker without restarting any.
//
// # Model
//
// Make reads everything and returns a Plan, which says what is taken from where
// and what is lost; nothing is changed. Plan.Carry writes the new file. The lock
// of the state file is held from Make to Plan.Close, so no hive starts meanwhile.
//
// Sources of a record, best first: the tree of the damaged file; pages of it that
// nothing leads to and that are not free; its other pages; the newest backup in
// which nothing is wrong. Of a bucket that is whole in the tree nothing is taken
// from elsewhere.
//
// A worker is alive if its processes say so: its log, its stamps, its cgroup, or a
// recorded identity that is verified. Which records there are decides how much is
// known about it, never whether it keeps its port:
//
//   - the process and its ports come first: an older record that says otherwise,
//     of a freed page or of the backup, yields;
//   - a worker that is not alive keeps its record and port only if the damaged
//     file itself says that it has them now, and no living one has; hive then judges
//     it. Otherwise it is recorded as failed and holds no port;
//   - a process whose lease is known to have ended was left behind on purpose, and
//     is left alone.
//
// Unfinished jobs are recorded as interrupted: nothing begins by itself after it.
//
// # Guarantees
//
//   - No process is signalled, and no file is written but the state file. The
//     damaged one is kept beside it.
//   - The new file is checked before it takes its place.
//   - The first start with it is one with a file that was put in place by hand
//     (store.Meta.Relocated): hive ends nobody in it and restarts nobody.
//
// # Caveats
//
//   - Of a worker without a record, only what its processes show is known, its name
//     among it: parameters, readiness probe and restart policy are lost. hive follows it
//     by its port, stops it with SIGTERM and never restarts it by itself.
//   - The log of a worker can be read by hive's user only, but a worker writes it
//     itself: what stands in it is believed only about a process that has it open.
//   - It finds processes on Linux only.
package salvage
