package doctor

import (
	"fmt"
	"slices"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
)

// checkRange compares hive's ports with those of outgoing connections.
func checkRange(f *Facts) Checkup {
	const name = "range"
	if f.Host.LocalPorts.Err != nil {
		return unreadable(name, f.Host.LocalPorts.Err)
	}
	local := f.Host.LocalPorts.Value
	var outgoing, reserved, ours, exposed portSet
	outgoing.add(local.Range)
	for _, r := range local.Reserved {
		reserved.add(r)
	}
	ours.add(f.Range)
	for _, l := range f.Leases.Value { // a worker can ask for a port outside the range
		ours.add(alloc.Range{First: l.Port, Last: l.Port})
	}
	// Port by port: reserved ports make holes in ranges.
	overlaps := false
	for p := range ours {
		shared := ours[p] && outgoing[p]
		overlaps = overlaps || shared
		exposed[p] = shared && !reserved[p]
	}
	switch overlap := exposed.String(); {
	case overlap != "":
		// The sysctl is set as a whole: what is reserved already must stay in it.
		for p := range exposed {
			reserved[p] = reserved[p] || exposed[p]
		}
		return warning(name,
			fmt.Sprintf("%s are also ports of outgoing connections (ip_local_port_range %s)", overlap, local.Range),
			"the kernel can give such a port to any program's outgoing connection just before a worker needs it: hive then skips the port, or the worker cannot bind it",
			"`sysctl -w net.ipv4.ip_local_reserved_ports="+reserved.String()+"`, and the same setting in a file in /etc/sysctl.d to keep it")
	case f.Leases.Err != nil: // leased ports outside the range were not compared
		return unreadable(name, f.Leases.Err)
	case overlaps:
		return ok(name, "%s; ip_local_reserved_ports keeps outgoing connections away", f.Range)
	}
	return ok(name, "%s; outgoing connections use %s", f.Range, local.Range)
}

// checkPorts asks whether the next worker gets a port. One on which old connections
// run out can be given out, which is what checkDraining is about.
func checkPorts(f *Facts) Checkup {
	const name = "ports"
	if f.Survey.Err != nil {
		return unreadable(name, f.Survey.Err)
	}
	s := f.Survey.Value
	found := fmt.Sprintf("%d in all, %d free, %d leased", s.Total, s.Free, s.Leased)
	if s.Free+s.Draining > 0 {
		return ok(name, "%s", found)
	}
	return warning(name, found, "no port is available: the next spawn fails with ports_exhausted",
		"stop a worker, or widen `ports.range` in hive.yaml and restart hive (workers keep running)")
}

// checkSquatters names who else is on hive's ports. Those that are reserved are
// left to whoever they are reserved for.
func checkSquatters(f *Facts) Checkup {
	const name = "squatters"
	if f.Survey.Err != nil {
		return unreadable(name, f.Survey.Err)
	}
	var who []string
	var ports portSet
	// A connection goes by itself, and a worker or another leaseholder is no squatter.
	kinds := []string{sockets.KindListener, sockets.KindBound, sockets.KindHive, sockets.KindUnknown}
	for _, h := range f.Survey.Value.Holders {
		reserved := slices.ContainsFunc(f.Reserved, func(r alloc.Range) bool { return r.Contains(h.Port) })
		if slices.Contains(kinds, h.Kind) && f.Range.Contains(h.Port) && !reserved {
			who = append(who, fmt.Sprintf("%d %s", h.Port, h))
			ports[h.Port] = true
		}
	}
	if len(who) == 0 {
		return ok(name, "no other process holds a port of %s", f.Range)
	}
	return warning(name, listed(who), "hive skips these ports: workers get others, and a spawn that asks for one of these fails with port_unavailable",
		"stop these processes; or if they are to stay, add `"+ports.String()+"` to `ports.reserved` in hive.yaml and restart hive (workers keep running)")
}

// checkDraining is about ports that nobody has any more but the kernel.
func checkDraining(f *Facts) Checkup {
	const name = "draining"
	if f.Survey.Err != nil {
		return unreadable(name, f.Survey.Err)
	}
	s := f.Survey.Value
	waiting := counted(s.Draining, "port waits", "ports wait") + " for old connections to time out"
	switch {
	case s.Draining == 0:
		return ok(name, "no port waits for old connections to time out")
	case s.Free > 0: // these are given out last, so nobody gets one
		return ok(name, "%s; other ports are used first", waiting)
	}
	return warning(name, waiting+", and no other port is free",
		"the next worker gets one of them, and a server that does not set SO_REUSEADDR cannot bind it",
		"wait a minute, until the kernel has dropped the connections; or widen `ports.range` in hive.yaml and restart hive (workers keep running)")
}
