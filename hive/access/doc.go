// Package access says who a caller of the API is and what they may do.
//
// # Model
//
// A [Caller] is known by the kernel (the user of the process that connected: over a
// unix socket by SO_PEERCRED, over loopback TCP by the socket table) or by a token. A
// [Policy] turns that into [Rights]. There are four levels, each with all of the ones
// before it:
//
//	None     health, version and the documentation
//	Read     read everything: workers, jobs, events, logs, leases, metrics
//	Operate  start, stop and restart workers of some types, and lease ports
//	Admin    everything
//
// Root and hive's own user are Admin. Who else is comes from the configuration
// (access.admin, access.read, and allow in a worker type), and from the rights that a
// token was made with.
//
// # Guarantees
//
//   - The zero Caller has no rights, and so has one that is not known.
//   - The overflow uid (65534 unless the kernel was told otherwise) never matches: it
//     stands for every user that this namespace has no number for.
//   - Of a token only the SHA-256 is kept; it is compared by that alone.
//
// # Caveats
//
// The user of a TCP connection is the one whose socket it is. A proxy that root runs
// connects as root: access.tcp_root says whether that counts, and a request that says
// itself that it was forwarded is nobody's.
//
// A Policy does not change after it was made; all of it may be used concurrently, and
// nothing in it blocks.
package access
