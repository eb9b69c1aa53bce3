package hive

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/store"
)

// The checks of this file are about what is hive's own: ports, leases,
// processes, and the state file. Each is a function of the facts alone.

const (
	// listedAtMost bounds a list in a line for a person.
	listedAtMost = 8
	// lowDisk: workers write logs of any length into the same file system.
	lowDisk = 256 << 20
	// clockSlack: two clocks of one machine are not read at one moment.
	clockSlack = 2 * time.Second
)

func fine(name, format string, args ...any) Checkup {
	return Checkup{Name: name, Condition: ConditionOK, Found: fmt.Sprintf(format, args...)}
}

func warning(name, found, means, do string) Checkup {
	return Checkup{Name: name, Condition: ConditionWarning, Found: found, Means: means, Do: do}
}

func unknown(name, found, means, do string) Checkup {
	return Checkup{Name: name, Condition: ConditionUnknown, Found: found, Means: means, Do: do}
}

// unseen is a check whose facts could not be had.
func unseen(name string, err error) Checkup {
	return unknown(name, err.Error(), "this could not be looked at, so nothing is known about it", "mend what the error says, and ask again")
}

// listed joins the items of a line, not too many.
func listed(items []string) string {
	more := len(items) - listedAtMost
	if more > 1 {
		items = append(slices.Clone(items[:listedAtMost]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(items, "; ")
}

// portSet has a bit for every port.
type portSet [1 << 16]bool

func (s *portSet) add(r alloc.Range, in bool) {
	for p := int(r.First); r.Len() > 0 && p <= int(r.Last); p++ {
		s[p] = in
	}
}

// text writes the set as ip_local_reserved_ports has it: "8080,8100-8199".
func (s *portSet) text() string {
	var parts []string
	for p := 1; p < len(s); p++ {
		if !s[p] {
			continue
		}
		r := alloc.Range{First: uint16(p), Last: uint16(p)}
		for ; p+1 < len(s) && s[p+1]; p++ {
			r.Last++
		}
		parts = append(parts, r.String())
	}
	return strings.Join(parts, ",")
}

// checkRange compares hive's ports with those of outgoing connections.
func checkRange(f *facts) Checkup {
	const name = "range"
	if f.Local.Err != nil {
		return unseen(name, f.Local.Err)
	}
	local := f.Local.Value
	var outgoing, reserved, exposed portSet
	outgoing.add(local.Range, true)
	for _, r := range local.Reserved {
		reserved.add(r, true)
	}
	ours := []alloc.Range{f.Range}
	for _, l := range f.Leases.Value { // a worker can ask for a port outside the range
		ours = append(ours, alloc.Range{First: l.Port, Last: l.Port})
	}
	overlaps := false
	for _, r := range ours {
		for p := int(r.First); p <= int(r.Last); p++ {
			overlaps = overlaps || outgoing[p]
			exposed[p] = exposed[p] || outgoing[p] && !reserved[p]
		}
	}
	overlap := exposed.text()
	switch {
	case overlap != "":
		for p := range exposed {
			reserved[p] = reserved[p] || exposed[p]
		}
		return warning(name,
			fmt.Sprintf("%s are also ports of outgoing connections (ip_local_port_range %s)", overlap, local.Range),
			"any program's outgoing connection can have such a port just when a worker needs it: hive passes it over, or the worker cannot bind it",
			"`sysctl -w net.ipv4.ip_local_reserved_ports="+reserved.text()+"`, and the same setting in a file in /etc/sysctl.d to keep it")
	case overlaps:
		return fine(name, "%s; ip_local_reserved_ports keeps outgoing connections away", f.Range)
	}
	return fine(name, "%s; outgoing connections use %s", f.Range, local.Range)
}

func checkPorts(f *facts) Checkup {
	const name = "ports"
	if f.Survey.Err != nil {
		return unseen(name, f.Survey.Err)
	}
	s := f.Survey.Value
	found := fmt.Sprintf("%d in all, %d free, %d leased", s.Total, s.Free, s.Leased)
	if s.Free+s.Draining > 0 {
		return fine(name, "%s", found)
	}
	return warning(name, found, "no port can be given out: the next worker fails with ports_exhausted",
		"stop a worker, or widen `ports.range` in hive.yaml and start hive again (workers keep running)")
}

// checkSquatters names who else is on hive's ports. Those that are reserved are
// left to whoever they are reserved for.
func checkSquatters(f *facts) Checkup {
	const name = "squatters"
	if f.Survey.Err != nil {
		return unseen(name, f.Survey.Err)
	}
	var who []string
	var ports portSet
	kinds := []string{sockets.KindListener, sockets.KindBound, sockets.KindHive, sockets.KindUnknown}
	for _, h := range f.Survey.Value.Holders {
		apart := slices.ContainsFunc(f.Apart, func(r alloc.Range) bool { return r.Contains(h.Port) })
		if slices.Contains(kinds, h.Kind) && f.Range.Contains(h.Port) && !apart {
			who = append(who, fmt.Sprintf("%d %s", h.Port, h))
			ports[h.Port] = true
		}
	}
	if len(who) == 0 {
		return fine(name, "nobody else is on %s", f.Range)
	}
	return warning(name, listed(who), "hive passes these ports over: workers get others, and who asks for one of these gets port_unavailable",
		"end them; or if they are to stay, add `"+ports.text()+"` to `ports.reserved` in hive.yaml")
}

func checkDraining(f *facts) Checkup {
	const name = "draining"
	if f.Survey.Err != nil {
		return unseen(name, f.Survey.Err)
	}
	s := f.Survey.Value
	switch {
	case s.Draining == 0:
		return fine(name, "no port waits for old connections to run out")
	case s.Free > 0:
		return fine(name, "%s for old connections to run out, handed out last", counted(s.Draining, "port waits", "ports wait"))
	}
	return warning(name, fmt.Sprintf("%s for old connections to run out, and no other is free", counted(s.Draining, "port waits", "ports wait")),
		"the next worker gets one of them; a server that does not set SO_REUSEADDR cannot bind it",
		"wait a minute, the kernel forgets them; or widen `ports.range` in hive.yaml")
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func checkQuarantined(f *facts) Checkup {
	const name = "quarantined"
	if f.Leases.Err != nil {
		return unseen(name, f.Leases.Err)
	}
	var held []string
	for _, l := range f.Leases.Value {
		if l.State != store.LeaseQuarantined {
			continue
		}
		text := fmt.Sprintf("%d of %s", l.Port, l.WorkerID)
		for _, h := range f.Survey.Value.Holders {
			if h.Port == l.Port {
				text += ", held by " + h.String()
				break
			}
		}
		held = append(held, text)
	}
	if len(held) == 0 {
		return fine(name, "no port is kept back")
	}
	return warning(name, listed(held),
		"the worker has ended, and on its port somebody can still be reached or something of it could not be ended",
		fmt.Sprintf("end what is left; `hivectl describe WORKER` names it. The port is free when nobody was found twice, which is looked at every %s", f.Review))
}

func checkUnverified(f *facts) Checkup {
	const name = "unverified"
	if f.Leases.Err != nil {
		return unseen(name, f.Leases.Err)
	}
	var kept []string
	for _, l := range f.Leases.Value {
		if l.State != store.LeaseUnverified {
			continue
		}
		text := fmt.Sprintf("%d %s", l.Port, l.WorkerID)
		if reason := f.Reasons[l.WorkerID]; reason != "" {
			text += ": " + reason
		}
		kept = append(kept, text)
	}
	if len(kept) == 0 {
		return fine(name, "the holder of every lease is known")
	}
	return warning(name, listed(kept),
		"hive cannot tell whether that process is still the worker: it keeps the port, does not touch the process, and refuses to stop it",
		fmt.Sprintf("remove the reason; hive looks again every %s. If the process is not wanted, end it by hand", f.Review))
}

func checkMembers(f *facts) Checkup {
	const name = "members"
	if f.Strays.Err != nil {
		return unseen(name, f.Strays.Err)
	}
	var who, pids []string
	for _, s := range f.Strays.Value {
		text := fmt.Sprintf("%s (pid %d)", s.Program, s.PID)
		if s.WorkerID != "" {
			text += " of " + s.WorkerID
		}
		who, pids = append(who, text), append(pids, strconv.Itoa(s.PID))
	}
	if len(who) == 0 {
		return fine(name, "every process with this hive's mark has a record")
	}
	return warning(name, listed(who),
		"these have this hive's mark and belong to no live worker: a worker left them behind, or the state file was restored; hive leaves them alone",
		"look at them, and end those that are not wanted: `ps -fp "+strings.Join(pids[:min(len(pids), listedAtMost)], ",")+"`")
}

func checkFile(f *facts) Checkup {
	const name = "file"
	size := bytesText(f.FileBytes)
	x := f.Examination
	switch {
	case x == nil:
		return unknown(name, size+"; its full check after the start is not over",
			"whether every record is whole is not known yet; what hive goes by was verified when it started", "ask again in a moment")
	case x.Err != nil:
		first, _, _ := strings.Cut(x.Err.Error(), "\n")
		return warning(name, fmt.Sprintf("%s, found %s", first, f.since(x.At)),
			"the state file is damaged, and what hive does by it may be wrong",
			"stop hive (workers keep running), `hivectl db check --data-dir "+f.DataDir+"` says all that is wrong, `hivectl db salvage --data-dir "+f.DataDir+"` mends it")
	}
	backup := "no backup"
	if b := f.Backups.Value; b.Count > 0 {
		backup = fmt.Sprintf("last backup %s, %s", f.since(b.Newest), counted(b.Count, "is kept", "are kept"))
	}
	if f.BackupEvery == 0 {
		backup += "; none is made by itself (backup.interval is 0s)"
	}
	if f.BackupFault != nil && f.BackupEvery > 0 {
		why, _, _ := strings.Cut(f.BackupFault.Error(), "\n")
		return warning(name, fmt.Sprintf("%s, whole when checked %s; %s; the next one could not be made: %s", size, f.since(x.At), backup, why),
			"what happens from now on is lost with the file", "mend what the error says; `hivectl db backup DEST` makes one elsewhere")
	}
	return fine(name, "%s, whole when checked %s; %s", size, f.since(x.At), backup)
}

func checkDisk(f *facts) Checkup {
	const name = "disk"
	free := "how much is free is not known"
	if f.DiskFree.Err == nil {
		free = bytesText(f.DiskFree.Value) + " free for " + f.DataDir
	}
	const do = "make room in the file system of the data directory; the logs of workers are in it too"
	switch {
	case f.Admits.Err != nil:
		return unseen(name, f.Admits.Err)
	case !f.Admits.Value:
		return warning(name, free+": full", "new jobs are refused with disk_full; stops are still carried out", do)
	case f.DiskFree.Err == nil && f.DiskFree.Value < lowDisk:
		return warning(name, free, "when it is full, new jobs are refused with disk_full and workers cannot write their logs", do)
	}
	return fine(name, "%s", free)
}

func checkOrigin(f *facts) Checkup {
	const name = "origin"
	if !f.Relocated {
		return fine(name, "the state file is the one that hive used last time")
	}
	return warning(name, "the state file was copied or restored, and this is the first start with it",
		"the workers it names may be another hive's: until the next start none is given up, and what a dead one left is not ended",
		"if they are this hive's, stop hive and start it once more (workers keep running)")
}

// checkClock is about records that are ahead of the clock, which is what a clock
// that was turned back looks like. Nothing of hive's decisions hangs on it.
func checkClock(f *facts) Checkup {
	const name = "clock"
	if f.Newest.Err != nil && !errors.Is(f.Newest.Err, store.ErrNotFound) {
		return unseen(name, f.Newest.Err)
	}
	const means = "times in lists and logs are wrong, and old jobs and logs go too early or too late; leases do not depend on it"
	d := f.Newest.Value
	switch ahead := d.At.Sub(f.Now); {
	case ahead > clockSlack:
		return warning(name, fmt.Sprintf("the clock is %s behind %s, which hive has recorded", ahead.Round(time.Second), d.What), means,
			"set the clock (`timedatectl set-ntp true`); if it is right now, it was ahead before, and this goes by itself")
	case f.Synchronised.Err != nil:
		return unknown(name, "ahead of every record; "+f.Synchronised.Err.Error(), "whether the clock is right cannot be seen from here; "+
			"where it is wrong, "+means, "see on the host that an NTP service sets the clock")
	case !f.Synchronised.Value:
		return unknown(name, "ahead of every record; no time service vouches for it (STA_UNSYNC)",
			"the clock may be right or wrong; where it is wrong, "+means, "let an NTP service set it: `timedatectl set-ntp true`, or on the host")
	}
	return fine(name, "synchronised, and ahead of every record")
}

// since says how long ago t was, roughly.
func (f *facts) since(t time.Time) string {
	d := max(f.Now.Sub(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours())/24)
}

func bytesText(n int64) string {
	value, unit := float64(n), 0
	for value >= 1024 && unit < 4 {
		value, unit = value/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", value, []string{"", "KiB", "MiB", "GiB", "TiB"}[unit])
}
