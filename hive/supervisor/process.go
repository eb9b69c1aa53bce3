package supervisor

import (
	"rbeehive/hive/catalog"
	"rbeehive/hive/proc"
)

// osProcess is what a worker has of the operating system. A new start gives it another.
type osProcess struct {
	proc        *proc.Process // nil while it has none (backoff), or none that could be verified (unverified)
	tree        *proc.Tree
	startedType *catalog.Type // what it was started as; nil if another hive did that
}
