package cli

import "rbeehive/httpapi/wire"

// Pick is pick.
func Pick(workers []wire.Worker, ref string) (wire.Worker, error) { return pick(workers, ref) }

// Loopback reports whether an address gets this machine's own token unasked.
func Loopback(addr string) bool { return loopback(addr) }
