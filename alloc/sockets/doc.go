// Package sockets answers who has which TCP port of this machine: which sockets
// hold it, and which process, program and user is behind each.
//
// # Model
//
// A [Table] reads the kernel's sockets by sock_diag(7), in one exchange for each
// address family, and hands out immutable Snapshots. Table.Snapshot has the
// sockets that take a port away from others: those that listen and those that
// are bound and do not listen yet (vLLM while it loads its model). Established
// connections, of which a busy machine has tens of thousands, are left out by
// the kernel. Table.Port has every socket of one port, with the residue of
// closed connections, for the rare question why a port cannot be bound.
//
// Where sock_diag does not answer, /proc/net/tcp and tcp6 are read instead.
//
// Sockets name an inode, not a process. [Holders] and [OwnedBy] find the process
// through /proc/<pid>/fd.
//
// # Guarantees
//   - Concurrent callers of Table.Snapshot share one read. With a maximal age of 0 the read
//     started after the call.
//   - Snapshot.BoundKnown is true only where the kernel really lists bound sockets: 6.8 or
//     newer, by sock_diag. Older kernels skip states that they do not know without an
//     error, so the release decides.
//   - Nothing here opens a connection, binds a port or changes anything.
//
// # Cost
//
// Measured on Linux 6.18, two shared cores, ehash of 262,144 and bhash of 65,536 buckets: a
// Snapshot takes 1.2 ms without any socket and 4 to 6 ms with 1,900 listeners (0.9 MB, 280
// allocations). Most of the first figure is the kernel's walk, once for each family,
// through the buckets of bound sockets; without BOUND_INACTIVE it is 0.16 ms. Port takes
// 1.1 to 2 ms, because the walk is the same whatever it looks for. Reading /proc/net/tcp
// and tcp6 takes 29 ms with 1,900 listeners. Holders is one pass over all descriptors of
// all processes that it may inspect: about 2 microseconds a descriptor.
//
// # Caveats
//
//   - Only this network namespace is seen, as with bind(2) itself.
//   - The kernel walks its buckets in pieces of up to 32 KiB and releases their
//     locks in between: a snapshot is not one instant, and a socket can be missed
//     when another one of the same bucket goes away in between. Who needs to be
//     sure of one port binds it as well, or asks Port, which fits in one piece.
//     /proc/net/tcp is read in pieces of 4 KiB and has the same weakness, for Port too.
//   - A snapshot lists the sockets of this process too.
//   - A socket's cgroup is where it was made. Its UID is that of the thread that
//     made it.
//   - Without CAP_SYS_PTRACE the processes of other users cannot be seen: PID 0.
package sockets
