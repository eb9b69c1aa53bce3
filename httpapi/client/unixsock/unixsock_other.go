//go:build !linux

package unixsock

import "net"

// Reach returns path.
func Reach(path string) (name string, done func(), err error) { return path, func() {}, nil }

// Peer returns ErrUnsupported.
func Peer(*net.UnixConn) (Cred, error) { return Cred{}, ErrUnsupported }
