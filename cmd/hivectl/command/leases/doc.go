// Package leases has the commands for ports that hive leases to programs it does not start:
// leases, and run, which starts one.
//
// run binds the lease to the program before the program's first instruction, and passes on
// its exit code. A lease that is acquired otherwise is held by a process or renewed.
//
// It is the only part of hivectl that may start, identify and signal processes (hive/proc).
package leases
