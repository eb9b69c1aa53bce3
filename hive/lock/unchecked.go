//go:build !lockrank

package lock

// Checked says that this build checks the order of locks.
const Checked = false

func acquire[R Rank]() {}
func release[R Rank]() {}

// MayCommit panics, in a build that checks, if the caller holds a mutex that must not be
// held over a commit: whoever reads a table would wait for the disk.
func MayCommit() {}
