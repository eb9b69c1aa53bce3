// Package disk is what a state file is to the system: who has it locked, which file it is,
// whether another process has claimed its state, and how one file takes the place of
// another. It knows nothing of what is in a file.
package disk
