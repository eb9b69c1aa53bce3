// Package ports reserves the ports of workers, finds out who else has one, and says so: to
// a person, and as the failure of a start.
//
// It records nothing and waits for nobody: how long somebody else's hold of a port is waited
// for is the supervisor's to decide. It may touch ports through alloc, and the kernel's table
// of sockets.
package ports
