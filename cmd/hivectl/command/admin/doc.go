// Package admin has the commands of who looks after a hive: tokens, reload, db, and version.
//
// The secret of a token is printed once, by the command that makes it. The commands of db
// work on a state file that no hive has (package db), except backup without --data-dir, and
// give its refusals their exit codes.
//
// It may use the hive through App.Hive, and the state directory through package db alone.
package admin
