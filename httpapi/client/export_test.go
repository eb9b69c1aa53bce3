package client

import "syscall"

// SetMaxBody lowers the limit of one JSON answer.
func (c *Client) SetMaxBody(n int64) { c.maxBody = n }

// OnConnect has a client of an address in the clear, with a token, call looked when it
// has looked at a listener for the first time, with the socket to be connected, and
// connected when it is connected. Not for concurrent use.
func (c *Client) OnConnect(looked func(syscall.RawConn), connected func()) {
	c.guard.onFirstCheck, c.guard.connected = looked, connected
}
