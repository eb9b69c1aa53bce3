package httpapi

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// defaultConnections is how many connections a listener has at most unless
// Options.MaxConnections says otherwise.
const defaultConnections = 2048

// perSource is which part of them one source may have whose requests prove nothing.
const perSource = 4

// connections bounds the connections of a listener. A connection is trusted if its user
// has rights, or once a request on it came by a token; all others wait, whatever they do:
// one that sends its header a byte at a time, one that asks for /health and does not
// take the answer. When there are too many, the one goes that has waited longest; then
// a trusted one that has been without a request for longest. So a flood of strangers
// drives out itself and nobody else; if all have a request of somebody with rights, it
// is the new one that is closed. One source drives out its own before those of others.
//
// It is told by http.Server.ConnState, and safe for concurrent use.
type connections struct {
	limit int

	mu       sync.Mutex
	open     map[net.Conn]*connection
	accepted *connection           // whom ConnContext has just told about; its StateNew comes next
	waiting  list.List             // *connection that are not trusted, longest first
	idle     list.List             // *connection that are, without a request
	bySource map[string]*list.List // those of waiting
}

// connection is one of them.
type connection struct {
	conn    net.Conn
	source  string
	trusted bool
	active  bool          // it has a request
	place   *list.Element // in waiting or idle; nil: in neither
	among   *list.Element // in bySource
}

func newConnections(most int) *connections {
	if most <= 0 {
		most = defaultConnections
	}
	return &connections{limit: most, open: map[net.Conn]*connection{}, bySource: map[string]*list.List{}}
}

// changed takes note of a connection's state and closes one if there are too many.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if victim := c.note(conn, state); victim != nil {
		bare(victim).Close() // a TLS connection would first say goodbye, and wait for who does not listen
	}
}

// register says who is at the other end of a connection before it is StateNew. net/http
// does both in the goroutine that accepts, one connection after the other.
func (c *connections) register(conn net.Conn, source string, trusted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted = &connection{conn: conn, source: source, trusted: trusted}
}

func (c *connections) note(conn net.Conn, state http.ConnState) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.open[conn]
	if one == nil {
		if state != http.StateNew {
			return nil // it was the victim
		}
		if one = c.accepted; one == nil || one.conn != conn {
			one = &connection{conn: conn, source: sourceOf(conn.RemoteAddr())}
		}
		c.accepted = nil
		return c.admit(one)
	}
	switch state {
	case http.StateActive, http.StateIdle:
		one.active = state == http.StateActive
		c.list(one)
	case http.StateClosed, http.StateHijacked:
		c.forget(one)
	case http.StateNew:
	}
	return nil
}

// admit takes a new connection in, and returns which one is to be closed for it; it
// itself if there is no other. c.mu is held.
func (c *connections) admit(one *connection) (victim net.Conn) {
	var first *list.Element
	if own := c.bySource[one.source]; !one.trusted && own != nil && own.Len() >= max(1, c.limit/perSource) {
		first = own.Front()
	} else if len(c.open) >= c.limit {
		if first = c.waiting.Front(); first == nil {
			first = c.idle.Front()
		}
		if first == nil {
			return one.conn
		}
	}
	if first != nil {
		old := first.Value.(*connection) // nothing else is put in
		c.forget(old)
		victim = old.conn
	}
	c.open[one.conn] = one
	c.list(one)
	return victim
}

// trust says who has sent a request on a connection, and that they have rights.
func (c *connections) trust(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.open[conn]; one != nil && !one.trusted {
		c.unlist(one)
		one.trusted = true
		c.list(one)
	}
}

// list puts a connection where it belongs. One that waits keeps its place: what a
// stranger does must not put off their turn. c.mu is held.
func (c *connections) list(one *connection) {
	switch {
	case !one.trusted && one.place != nil:
	case !one.trusted:
		own := c.bySource[one.source]
		if own == nil {
			own = list.New()
			c.bySource[one.source] = own
		}
		one.place, one.among = c.waiting.PushBack(one), own.PushBack(one)
	default:
		if c.unlist(one); !one.active {
			one.place = c.idle.PushBack(one)
		}
	}
}

func (c *connections) unlist(one *connection) {
	if one.place == nil {
		return
	}
	if !one.trusted {
		c.waiting.Remove(one.place)
		own := c.bySource[one.source]
		if own.Remove(one.among); own.Len() == 0 {
			delete(c.bySource, one.source)
		}
	} else {
		c.idle.Remove(one.place)
	}
	one.place, one.among = nil, nil
}

func (c *connections) forget(one *connection) {
	c.unlist(one)
	delete(c.open, one.conn)
}

// bare is the connection below TLS and below listeners that wrap it.
func bare(conn net.Conn) net.Conn {
	for {
		c, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = c.NetConn()
	}
}

var _ interface{ NetConn() net.Conn } = (*tls.Conn)(nil)

// sourceOf is whom a connection counts for whose user is not known: the machine it
// comes from, of IPv6 the network, of which one machine has all the addresses.
func sourceOf(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "unknown"
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is6() {
		if network, err := ip.WithZone("").Prefix(64); err == nil {
			return network.String()
		}
	}
	return ip.String()
}
