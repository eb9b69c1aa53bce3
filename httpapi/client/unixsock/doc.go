// Package unixsock is what net lacks for unix sockets with a path: paths of any
// length, and who is at the other end. It also says where hives have theirs.
//
// Model: sockaddr_un holds 107 bytes of a path (unix(7)), and a state directory may
// have a longer one. Reach gives such a path a short name through /proc/self/fd,
// which leads to the same file. Peer is SO_PEERCRED.
//
// Caveats: both are for Linux. Elsewhere a path is taken as it is, and a peer is
// ErrUnsupported.
package unixsock
