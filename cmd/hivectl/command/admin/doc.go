// Package admin has the commands that administer a hive: tokens, reload, db, and version.
// The secret of a token is printed once, by the command that creates it. The commands of db
// work on a state file that no hive has open (package db), except backup without
// --data-dir, and map its refusals to exit codes.
//
// It may use the hive through App.Hive, and the state directory through package db alone.
package admin
