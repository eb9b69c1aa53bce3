package sockets

import "errors"

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrUnsupported: there is no way to read the socket table on this operating system.
	ErrUnsupported = errors.New("the socket table can be read on linux only")
	// ErrNoPeer: it is not known who is at the other end of a connection.
	ErrNoPeer = errors.New("the peer of the connection is not known")
	// ErrMalformed: the kernel answered something that this package does not understand.
	ErrMalformed = errors.New("malformed socket table")
)
