package doctor

import (
	"errors"
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

// checkForbidden counts the ports that hive may not bind, and with it as a rule its
// workers.
func checkForbidden(f *Facts) Checkup {
	const name = "forbidden"
	if f.Survey.Err != nil {
		return unreadable(name, f.Survey.Err)
	}
	s := f.Survey.Value
	if s.Forbidden == 0 {
		return ok(name, "the system lets hive bind the ports of %s", f.Range)
	}
	const sysctl = "net.ipv4.ip_unprivileged_port_start"
	found := fmt.Sprintf("the system does not let hive bind %s of %s", counted(s.Forbidden, "port", "ports"), f.Range)
	do := "take other ports as `ports.range` in hive.yaml and restart hive (workers keep running)"
	start := f.Host.LocalPorts.Value.Unprivileged
	if f.Host.LocalPorts.Err == nil && start > int(f.Range.First) {
		found += fmt.Sprintf(": those below %d need CAP_NET_BIND_SERVICE (%s)", start, sysctl)
		do = fmt.Sprintf("begin `ports.range` in hive.yaml at %d and restart hive (workers keep running); or `sysctl -w %s=%d`, and the same setting in a file in /etc/sysctl.d to keep it", start, sysctl, f.Range.First)
	}
	return warning(name, found, "hive passes over them: the range is smaller by these, and a spawn that asks for one fails with port_unavailable", do)
}

// checkSquatters names who else is on hive's ports. Those that are reserved are
// left to whoever they are reserved for.
func checkSquatters(f *Facts) Checkup {
	const name = "squatters"
	// Else a worker's own program would be called one, with the advice to end it.
	if err := errors.Join(f.Survey.Err, f.Unleased.Err); err != nil {
		return unreadable(name, err)
	}
	var who []string
	var ports portSet
	for _, h := range f.squatting() {
		if f.Unleased.Value[h.Port] == "" {
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

// squatting are the holders of hive's ports without a lease.
func (f *Facts) squatting() (all []sockets.Holder) {
	// A connection goes by itself, and a worker or another leaseholder is no squatter.
	kinds := []string{sockets.KindListener, sockets.KindBound, sockets.KindHive, sockets.KindUnknown}
	for _, h := range f.Survey.Value.Holders {
		reserved := slices.ContainsFunc(f.Reserved, func(r alloc.Range) bool { return r.Contains(h.Port) })
		if slices.Contains(kinds, h.Kind) && f.Range.Contains(h.Port) && !reserved {
			all = append(all, h)
		}
	}
	return all
}

// checkUnleased names the workers that use more ports of the range than they have leased.
func checkUnleased(f *Facts) Checkup {
	const name = "unleased"
	if err := errors.Join(f.Survey.Err, f.Unleased.Err); err != nil {
		return unreadable(name, err)
	}
	var who []string
	for _, h := range f.squatting() {
		if worker := f.Unleased.Value[h.Port]; worker != "" {
			who = append(who, fmt.Sprintf("%d worker %s: %s", h.Port, worker, h))
		}
	}
	if len(who) == 0 {
		return ok(name, "no worker listens on a port of the range that it has no lease for")
	}
	return warning(name, listed(who), "hive skips these ports while they are in use, and may give them to another worker when they are not: then this one cannot bind them",
		"lease them: `ports: N` in the worker's entry in hive.yaml, and hand them over in its command ({{.Ports}}); or configure the program to use ports outside "+f.Range.String())
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
