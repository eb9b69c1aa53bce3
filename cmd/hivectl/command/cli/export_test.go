package cli

import "rbeehive/httpapi/wire"

// Pick is pick.
func Pick(workers []wire.Worker, ref string) (wire.Worker, error) {
	return pick(wire.Workers{Workers: workers}, ref)
}

// Loopback reports whether an address gets this machine's own token unasked.
func Loopback(addr string) bool { return loopback(addr) }

// StartHint says how the hive of a machine is started whose files are below root.
func StartHint(root string) string { return startHint(root) }
