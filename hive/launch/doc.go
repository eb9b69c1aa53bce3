// Package launch prepares the start of a worker: it makes a command of a worker type and
// of what was asked for, finds the program and the model, makes the environment, and runs
// the commands of an entry that belong to a start or a stop (before_start, stop.command).
// It also knows by what a worker's processes are recognised (Tree).
//
// It starts no worker and records nothing; that is the supervisor's. It reads files that
// users of workers own: with their rights, within a time, and never more than a bound.
package launch
