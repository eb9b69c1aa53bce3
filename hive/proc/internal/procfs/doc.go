// Package procfs reads the files of /proc that package proc decides on: what one
// process is, whose it is, and what it has open.
//
// It reads and decides nothing. No answer is tied to a process: between two reads the
// number may have passed to another one, so a caller that acts on an answer compares
// Stat.Start before and after, or holds a pidfd that it opened first.
//
// The files are read here and not with prometheus/procfs where they are read for every
// process of the machine, every few seconds: each in one system call, without the
// poller, and parsed only as far as it is needed. The parsers take bytes, because what
// a process writes into its own name, arguments and environment is whatever its user
// likes.
package procfs
