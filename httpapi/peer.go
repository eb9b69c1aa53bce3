package httpapi

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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

// withPeer is a server's ConnContext: it finds out who has connected. It runs before
// the next connection is accepted, which is why every question in it is bounded, and
// as early as it can: a client that has gone is nobody.
func (s *Server) withPeer(ctx context.Context, conn net.Conn, conns *connections) context.Context {
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
		p.caller.User = s.users.name(p.caller.UID)
		if p.tcp { // over a unix socket the process itself says its groups
			p.caller.GIDs = s.users.groups(p.caller.UID)
		}
		source = "uid " + strconv.FormatUint(uint64(p.caller.UID), 10)
		trusted = s.policy.Load().OfUser(p.caller, access.Connection{TCP: p.tcp}).May(access.Read)
	}
	conns.meet(conn, source, trusted)
	return context.WithValue(ctx, peerKey{}, p)
}

// trust says that a request on the connection came from somebody with rights.
func (p *peer) trust() {
	if p.conns != nil {
		p.conns.trust(p.conn)
	}
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

func tcpPeer(ctx context.Context, c *net.TCPConn) (access.Caller, uint64) {
	sock, err := sockets.PeerOf(ctx, c)
	if err != nil { // from elsewhere, gone already, or a system that does not tell
		return access.Caller{}, 0
	}
	return access.Caller{Known: true, UID: sock.UID}, sock.CgroupID
}

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

// users remembers names and groups of users for a short time: a client that opens a
// connection for each request must not have the user database read each time. It is
// safe for concurrent use.
type users struct {
	mu    sync.Mutex
	known map[uint32]userEntry
}

type userEntry struct {
	name   string
	groups []uint32
	until  time.Time
}

const (
	userFor   = 10 * time.Second // how long a change of the user database may go unseen
	mostUsers = 1024
)

func (u *users) name(uid uint32) string     { return u.of(uid).name }
func (u *users) groups(uid uint32) []uint32 { return slices.Clone(u.of(uid).groups) }

func (u *users) of(uid uint32) userEntry {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if e, ok := u.known[uid]; ok && now.Before(e.until) {
		return e
	}
	if u.known == nil || len(u.known) >= mostUsers {
		u.known = map[uint32]userEntry{}
	}
	e := lookUser(uid)
	e.until = now.Add(userFor)
	u.known[uid] = e
	return e
}

// lookUser reads the user database: in a build without cgo, as releases are, the
// files /etc/passwd and /etc/group. Who is not in it has a number and no group.
func lookUser(uid uint32) (e userEntry) {
	who, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return e
	}
	e.name = who.Username
	ids, err := who.GroupIds()
	if err != nil {
		return e
	}
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			e.groups = append(e.groups, uint32(gid))
		}
	}
	return e
}
