// Package workers has the commands that show workers and stop them: ps, workers, describe,
// logs, stop and down. A worker is resolved by App.Resolve, the same everywhere. Stops run
// in parallel and are each followed to their end; the other commands change nothing, and
// Ctrl-C ends only hivectl.
//
// It may use the hive through App.Hive, and nothing else of the machine. Starting workers is
// package start's.
package workers
