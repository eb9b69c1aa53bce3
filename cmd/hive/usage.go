package main

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake on the command line.
type usageError struct{ reason string }

func (e usageError) Error() string { return e.reason + "; hive --help lists the flags" }
