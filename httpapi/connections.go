package httpapi

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// defaultConnections is how many connections there are at most unless
// Options.MaxConnections says otherwise.
const defaultConnections = 2048

// connections bounds the connections of a server. When there are too many, the
// one is closed that has been without a request for longest: new (net/http calls
// it so until the whole header of its first request has been read, which is where
// a slow loris stays) or idle. So a flood of connections that ask nothing drives
// out itself, and never a request or a stream; if all have a request, it is the
// new one that is closed.
//
// It is told by http.Server.ConnState, and safe for concurrent use.
type connections struct {
	most int

	mu      sync.Mutex
	open    map[net.Conn]*list.Element // its place in waiting; nil while it has a request
	waiting *list.List                 // net.Conn without a request, longest first
}

func newConnections(most int) *connections {
	if most <= 0 {
		most = defaultConnections
	}
	return &connections{most: most, open: map[net.Conn]*list.Element{}, waiting: list.New()}
}

// changed takes note of a connection's state and closes one if there are too many.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if victim := c.note(conn, state); victim != nil {
		hangUp(victim)
	}
}

func (c *connections) note(conn net.Conn, state http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	place, known := c.open[conn]
	if !known && state != http.StateNew {
		return nil // it was the victim
	}
	if place != nil {
		c.waiting.Remove(place)
		c.open[conn] = nil
	}
	switch state {
	case http.StateNew:
		if victim = c.makeRoom(); victim == nil && len(c.open) >= c.most {
			return conn
		}
		c.open[conn] = c.waiting.PushBack(conn)
	case http.StateIdle:
		c.open[conn] = c.waiting.PushBack(conn)
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	case http.StateActive:
	}
	return victim
}

// makeRoom forgets the connection that has waited longest, if there is need for
// that and one waits. c.mu is held.
func (c *connections) makeRoom() net.Conn {
	first := c.waiting.Front()
	if len(c.open) < c.most || first == nil {
		return nil
	}
	victim := c.waiting.Remove(first).(net.Conn) // nothing else is put in
	delete(c.open, victim)
	return victim
}

// hangUp closes a connection without a word. A TLS connection would first write
// that it closes, and wait for a peer that does not read.
func hangUp(conn net.Conn) {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	conn.Close()
}
