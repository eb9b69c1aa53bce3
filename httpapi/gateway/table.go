package gateway

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"rbeehive/httpapi/wire"
)

// table is what can be asked for, as hive has said last. It does not change.
type table struct {
	routes   []wire.Route
	byName   map[string][]*replica
	known    map[string]wire.Route // one of the routes that a name leads to, the nearest to serving
	replicas map[string]*replica   // by worker
}

// newTable makes the table of routes. Replicas of the one before that are still the same go on, with
// their connections and what is in flight at them; what is gone is returned.
func (g *Gateway) newTable(routes []wire.Route, last *table) (next *table, gone []*replica) {
	next = &table{routes: routes, byName: map[string][]*replica{}, known: map[string]wire.Route{}, replicas: map[string]*replica{}}
	for _, route := range routes {
		for _, shape := range route.Replicas {
			p, err := newProof(shape)
			if err != nil {
				g.log.WithError(err).WithField("worker", shape.WorkerID).Warn("a replica that cannot be used")
				continue
			}
			r := last.replicas[shape.WorkerID]
			if r == nil || !r.proof.Load().same(p) {
				r = g.newReplica(p)
			}
			next.replicas[shape.WorkerID] = r
			for _, name := range route.Names {
				next.byName[name] = append(next.byName[name], r)
			}
		}
		for _, name := range route.Names {
			// The one that has replicas says more about what is the matter.
			if other, ok := next.known[name]; !ok || len(other.Replicas) < len(route.Replicas) {
				next.known[name] = route
			}
		}
	}
	for id, r := range last.replicas {
		if next.replicas[id] != r {
			gone = append(gone, r)
		}
	}
	return next, gone
}

// free returns the replicas behind a name, the one with the fewest requests in flight first.
func (t *table) free(name string) []*replica {
	list := slices.Clone(t.byName[name])
	slices.SortStableFunc(list, func(a, b *replica) int { return cmp.Compare(a.inFlight.Load(), b.inFlight.Load()) })
	return list
}

// like returns names that are close to one that leads nowhere.
func (t *table) like(name string) (close []string) {
	lower := strings.ToLower(name)
	for known := range t.known {
		k := strings.ToLower(known)
		if strings.Contains(k, lower) || strings.Contains(lower, k) {
			close = append(close, known)
		}
	}
	slices.Sort(close)
	return close[:min(len(close), 5)]
}

// names are the names under which routes are shown.
func (t *table) names() (list []string) {
	for _, r := range t.routes {
		list = append(list, r.Name)
	}
	return list
}

// proof is what a replica is known by.
type proof struct {
	worker  string
	url     *url.URL
	engine  string          // the model's name there; empty: the caller's
	cookies map[uint64]bool // of the sockets that take its connections
	cgroups map[uint64]bool // in which these were made
	addrs   []netip.AddrPort
}

// newProof reads what hive says of a replica. Hive is believed, but what cannot be checked by it is
// an error.
func newProof(shape wire.Replica) (*proof, error) {
	u, err := url.Parse(shape.URL)
	if err != nil {
		return nil, err
	}
	p := &proof{worker: shape.WorkerID, url: u, cookies: map[uint64]bool{}, cgroups: map[uint64]bool{}}
	if shape.EngineModel != nil {
		p.engine = *shape.EngineModel
	}
	for _, l := range shape.Listeners {
		cookie, err := strconv.ParseUint(l.Cookie, 10, 64)
		if err != nil {
			return nil, err
		}
		cgroup, err := strconv.ParseUint(l.Cgroup, 10, 64)
		if err != nil {
			return nil, err
		}
		addr, err := netip.ParseAddrPort(l.Address)
		if err != nil {
			return nil, err
		}
		p.cookies[cookie], p.cgroups[cgroup] = true, true
		p.addrs = append(p.addrs, addr)
	}
	if len(p.cookies) == 0 || p.cookies[0] {
		return nil, errNoCookies
	}
	return p, nil
}

// same reports whether two proofs are of the same sockets, reached in the same way.
func (p *proof) same(q *proof) bool {
	if p.worker != q.worker || p.url.String() != q.url.String() || p.engine != q.engine || len(p.cookies) != len(q.cookies) {
		return false
	}
	for c := range p.cookies {
		if !q.cookies[c] {
			return false
		}
	}
	return true
}

// dialled is the address that the replica is dialled at.
func (p *proof) dialled() (netip.AddrPort, error) {
	port, err := strconv.ParseUint(p.url.Port(), 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	host := p.url.Hostname()
	if host == "localhost" {
		// Either of the two is meant: the one where it listens.
		host = "127.0.0.1"
		if !slices.ContainsFunc(p.addrs, func(a netip.AddrPort) bool { return a.Addr().Unmap().Is4() || a.Addr().IsUnspecified() }) {
			host = "::1"
		}
	}
	addr, err := netip.ParseAddr(host)
	return netip.AddrPortFrom(addr, uint16(port)), err
}
