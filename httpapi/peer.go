package httpapi

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/access"
)

// peer is who is at the other end of a connection, as it was when it was accepted.
type peer struct {
	conn   net.Conn      // as the server has it
	conns  *connections  // among which it is; nil: none
	caller access.Caller // without rights
	tcp    bool
	cgroup uint64 // in which the client's socket was made; 0: not known

	once   sync.Once
	worker bool // that cgroup is a worker's
}

type peerKey struct{}

// peerOf is who is at the other end of a request's connection. A request that came
// over no connection of this server has a peer that is not known.
func peerOf(r *http.Request) *peer {
	if p, ok := r.Context().Value(peerKey{}).(*peer); ok {
		return p
	}
	return &peer{tcp: true}
}

// withPeer is for a server's ConnContext: it finds out who has connected. It runs before
// the next connection is accepted, which is why every question in it is bounded, and
// as early as it can: a client that has gone is nobody.
func withPeer(ctx context.Context, conn net.Conn, conns *connections, known *users, policy *access.Policy) context.Context {
	p := &peer{conn: conn, conns: conns}
	switch c := bare(conn).(type) {
	case *net.UnixConn:
		p.caller = unixPeer(c)
	case *net.TCPConn:
		p.tcp = true
		p.caller, p.cgroup = tcpPeer(ctx, c)
	default:
		p.tcp = true
	}
	source, trusted := sourceOf(conn.RemoteAddr()), false
	if p.caller.Known {
		p.caller.User = known.name(p.caller.UID)
		if p.tcp { // over a unix socket the process itself says its groups
			p.caller.GIDs = known.groups(p.caller.UID)
		}
		source = "uid " + strconv.FormatUint(uint64(p.caller.UID), 10)
		trusted = policy.OfUser(p.caller, access.Connection{TCP: p.tcp}).May(access.Read)
	}
	conns.register(conn, source, trusted)
	return context.WithValue(ctx, peerKey{}, p)
}

// trust says that a request on the connection came from somebody with rights.
func (p *peer) trust() {
	if p.conns != nil {
		p.conns.trust(p.conn)
	}
}

func tcpPeer(ctx context.Context, c *net.TCPConn) (access.Caller, uint64) {
	sock, err := sockets.PeerOf(ctx, c)
	if err != nil { // from elsewhere, gone already, or a system that does not tell
		return access.Caller{}, 0
	}
	return access.Caller{Known: true, UID: sock.UID}, sock.CgroupID
}

// forwarded reports whether a request says itself that somebody has passed it on:
// then the user who has connected is the proxy's.
func forwarded(h http.Header) bool {
	for name := range h {
		switch {
		case name == "Forwarded", name == "Via", name == "X-Real-Ip",
			strings.HasPrefix(name, "X-Forwarded-"), strings.HasPrefix(name, "Cf-"), strings.HasPrefix(name, "Tailscale-"):
			return true
		}
	}
	return false
}
