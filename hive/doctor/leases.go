package doctor

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"rbeehive/store"
)

// checkQuarantined names the ports whose holder has ended and that are not free yet.
func checkQuarantined(f *Facts) Checkup {
	const name = "quarantined"
	if f.Leases.Err != nil {
		return unreadable(name, f.Leases.Err)
	}
	var held []string
	for _, l := range f.Leases.Value {
		if l.State != store.LeaseQuarantined {
			continue
		}
		text := fmt.Sprintf("%d of %s", l.Port, holder(l))
		for _, h := range f.Survey.Value.Holders { // without a survey the text says less
			if h.Port == l.Port {
				text += ", held by " + h.String()
				break
			}
		}
		held = append(held, text)
	}
	if len(held) == 0 {
		return ok(name, "no port is quarantined")
	}
	return warning(name, listed(held),
		"the holder has ended, but something still answers on its port or a process of it could not be ended: the port stays leased",
		fmt.Sprintf("find what is left with `hivectl describe WORKER`, or `hivectl ports` where there is no worker, and end it; the port is freed when two audits in a row, one every %s, find nobody on it", f.AuditInterval))
}

// checkUnverified names the leases whose process hive cannot prove to be their holder.
func checkUnverified(f *Facts) Checkup {
	const name = "unverified"
	if f.Leases.Err != nil {
		return unreadable(name, f.Leases.Err)
	}
	var unverified []string
	for _, l := range f.Leases.Value {
		if l.State != store.LeaseUnverified {
			continue
		}
		text := fmt.Sprintf("%d %s", l.Port, holder(l))
		// A worker's own reason is newer than its lease's, which is from the recovery.
		if reason := cmp.Or(f.Reasons[l.WorkerID], l.Reason); reason != "" {
			text += ": " + reason
		}
		unverified = append(unverified, text)
	}
	if len(unverified) == 0 {
		return ok(name, "the process of every lease is verified")
	}
	return warning(name, listed(unverified),
		"hive cannot tell whether that process is still the holder: it keeps the port, does not touch the process, and refuses to stop it",
		fmt.Sprintf("remove the cause; hive checks again every %s. If the process is not wanted, end it by hand", f.AuditInterval))
}

// holder names who a lease is for: a worker, or a program that hive did not start, by
// the name that it has given itself or by its lease.
func holder(l store.Lease) string {
	switch {
	case l.WorkerID != "":
		return l.WorkerID
	case l.Owner != "":
		return l.Owner
	}
	return "lease " + l.LeaseID
}

// checkMembers names processes that hive once started, by their mark, and that no
// record leads to.
func checkMembers(f *Facts) Checkup {
	const name = "members"
	if f.Orphans.Err != nil {
		return unreadable(name, f.Orphans.Err)
	}
	var who, pids []string
	for _, s := range f.Orphans.Value {
		text := fmt.Sprintf("%s (pid %d)", s.Program, s.PID)
		if s.WorkerID != "" {
			text += " of " + s.WorkerID
		}
		who, pids = append(who, text), append(pids, strconv.Itoa(s.PID))
	}
	if len(who) == 0 {
		return ok(name, "every process with this hive's mark has a record")
	}
	// No more PIDs than names, so that the command stays one line.
	return warning(name, listed(who),
		"these processes have this hive's mark and belong to no live worker: a worker left them behind, or the state file was restored; hive leaves them alone",
		"inspect them with `ps -fp "+strings.Join(pids[:min(len(pids), listedAtMost)], ",")+"`, and end those that are not wanted")
}
