// Package alloc gives out TCP ports: which ports are leased, which of the others
// is next, and whether it is really free.
//
// # Model
//
// An [Allocator] keeps a bitmap of the ports that are leased, rebuilt from the store
// ([Allocator.Rebuild]). [Allocator.Acquire] takes a bit, claims the port against other
// hives, probes it, and returns a [Reservation]. The caller starts its worker behind the
// gate and calls [Reservation.Record] in the one transaction that records lease, PID
// mapping and worker, or [Reservation.Abandon]. [Allocator.Release] ends a lease in one
// transaction. A lease may be of several ports in a row ([Request].Ports); it is one lease,
// and they come and go together. A worker name remembers the port it had last, until another
// name gets it. Ports are tried in classes: those that nothing speaks against (with the
// policy lowest, those that a worker name remembers come last among them), then those that
// another program had when they were last checked (foreign), then those that only the kernel
// still holds (draining). Two kinds of port are never picked, but given to a request for them
// by number: those that the configuration assigns to somebody ([Options].Fixed), and for
// [Options].Quarantine those that were released. The second kind also to the worker name that
// had it. The quarantine survives a restart: the tombstones of ended leases say when it began.
//
// # Is it really free?
//
// A bind without SO_REUSEADDR on the wildcard addresses of IPv4 and IPv6 and on
// the worker's own address succeeds only where no socket has the port in any
// state: free, without reading any table. Where it fails, in this order:
//
//  1. A socket in the table that listens, or is bound and does not listen
//     (kernel >= 6.8): foreign.
//  2. A bind with SO_REUSEADDR fails: foreign if somebody's connection uses the
//     port; draining if only residue does, for up to a minute; foreign, by an
//     unknown holder, if the table does not say why.
//  3. It succeeds: free, residue or not. Where the table does not list bound
//     sockets, draining if residue explains the first bind's failure, else foreign.
//
// A probe never listens. A foreign port is avoided for a time that doubles from 1 s to 30
// s, and then looked up in the socket table; it is bound again only once the table does not
// show its holder any more. A port that is requested by number is looked up immediately.
//
// The claim is the abstract unix socket @hive-port/<port>, of type SOCK_STREAM, held from
// before the probe until after the release. It keeps two hives in one network namespace
// from giving out one port, and each other's probes from looking foreign. A child that was
// forked a moment ago still holds copies of our claims until its execve, so a claim that is
// held is tried again: ten times in one Acquire, 2 ms apart.
//
// # Guarantees
//
//   - A port has at most one reservation or lease. Its bit is set before the probe
//     and cleared after the commit that ended the lease, or when nothing was
//     recorded; after an error of unknown outcome it stays set.
//   - Picking costs nanoseconds and reads whole words of the bitmap: it does not grow with
//     the number of leases.
//   - Leases outside the range (the range was changed; a worker asked for such a
//     port) live on, are counted, and are not given out again unasked.
//   - Everything is safe for concurrent use. No lock is held during a probe or
//     while waiting for a transaction; the one lock is taken inside the store's
//     transactions and never the other way round.
//
// # Cost
//
// Measured on Linux 6.18, two shared cores: Acquire and Abandon take 45 to 65
// microseconds, with no lease as with 1,900 leases and listeners; picking alone 20 ns
// and 210 ns (that is the distance to the first free word). Each claim is one file
// descriptor. Survey takes 50 ms with 1,900 listeners, nearly all of it for
// finding their processes.
//
// # Caveats
//   - Between the probe and the worker's own bind anybody can take the port; the readiness
//     check finds that, since it checks whose the listener is.
//   - A probe has the port for some microseconds. A program that binds it in that moment
//     without SO_REUSEADDR gets EADDRINUSE.
//   - Only this network namespace counts. A port that is forwarded into a container
//     by packet filters alone, without a listener here, looks free.
//   - Ports below 1024 need CAP_NET_BIND_SERVICE for the probe.
//   - Linux only; elsewhere Acquire and Survey fail with an error.
package alloc
