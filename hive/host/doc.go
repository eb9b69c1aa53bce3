// Package host reports what the machine around hive offers and limits: the kernel,
// the service manager, and how many descriptors, processes and outgoing ports there
// may be. The reports are for the doctor's checks and for what hive tells a person
// about the place it runs in.
//
// # Guarantees
//
//   - Nothing is changed: the package reads /proc, /sys and cgroup files, makes a few
//     system calls that only read, and runs no program but `systemctl show`.
//   - What cannot be read is an error or documented as not known, never a guess.
//   - Only FindFirst and FindUnit wait, for about a second and two, and both end
//     with their context. Everything else returns after a few reads.
//   - Every function is safe for concurrent use.
//
// # Caveats
//
//   - A report is true of the moment it was made. Nothing here may decide whether a
//     process is a worker, or whether it may be signalled: that is package proc's.
//   - In a container most of it is about the container: its PID namespace, its mount
//     of /proc, its view of the cgroups. The kernel's own limits are the machine's.
//   - Linux only. Elsewhere the package compiles and returns ErrUnsupported.
package host
