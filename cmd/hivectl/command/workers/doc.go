// Package workers has the commands that look at workers and end them: ps, workers, describe,
// logs, stop and down.
//
// A worker is named by App.Resolve, the same everywhere. Stops run side by side and are each
// followed to their end; looking changes nothing, and Ctrl-C ends only the looking.
//
// It may use the hive through App.Hive, and nothing else of the machine. Starting workers is
// package start's.
package workers
