// Package db is the work of `hivectl db`: what can be done with a state file while no hive
// has it. It is the one part of hivectl that uses package store; the command around it
// parses, prints and asks. Every function refuses a file that is in use, and names the
// process that holds it; and a directory or file that others than root and the caller can
// change (package trust). Errors that a person can do something about are a *Refusal.
package db
