package doctor

import (
	"cmp"
	"fmt"
	"slices"

	"rbeehive/hive/host"
)

const (
	// fdsPerWorker: the worker's pidfd and the claim on its port.
	fdsPerWorker = 2
	// fdsBesides: the file, the API's connections, and the pipes and probes of
	// what goes on at once.
	fdsBesides = 256
	// tasksBesides: hive's own threads, and what else is in its cgroup.
	tasksBesides = 128
	// tasksToSpare is about one large model server.
	tasksToSpare = 256
)

// checkDescriptors asks whether hive can have a worker on every port of the range.
func checkDescriptors(f *Facts) Checkup {
	const name = "descriptors"
	if f.Host.Descriptors.Err != nil {
		return unreadable(name, f.Host.Descriptors.Err)
	}
	l, need := f.Host.Descriptors.Value, uint64(fdsPerWorker*f.Range.Len()+fdsBesides) //nolint:gosec // a range has 65,535 ports at most
	switch {
	case l.Max == host.Unlimited:
		return ok(name, "no limit, %d in use", l.Used)
	case l.Max >= need:
		return ok(name, "%d allowed, %d in use; a full range needs %d", l.Max, l.Used, need)
	}
	// In workers, since nobody counts descriptors.
	workers := max(int(l.Max)-fdsBesides, 0) / fdsPerWorker //nolint:gosec // less than need
	return warning(name, fmt.Sprintf("%d allowed, %d in use; a full range of %d ports needs %d", l.Max, l.Used, f.Range.Len(), need),
		fmt.Sprintf("from about %d workers on, new ones fail with \"too many open files\"", workers),
		fmt.Sprintf("set `LimitNOFILE=%d` in the systemd unit, or run `ulimit -n %d` before hive is started", need, need))
}

// checkTasks examines the limit that leaves the least: processes count towards all
// of them, and the first that is reached refuses the next one.
func checkTasks(f *Facts) Checkup {
	const name = "tasks"
	if f.Host.Tasks.Err != nil {
		return unreadable(name, f.Host.Tasks.Err)
	}
	if len(f.Host.Tasks.Value) == 0 {
		return ok(name, "no limit on processes and threads")
	}
	left := func(l host.Limit) uint64 { return l.Max - min(l.Used, l.Max) } // a limit may be lowered below what is in use
	// Cgroups are nested, and each has its own limit.
	least := slices.MinFunc(f.Host.Tasks.Value, func(a, b host.Limit) int { return cmp.Compare(left(a), left(b)) })
	found := fmt.Sprintf("%d processes and threads allowed (%s)", least.Max, least.Where)
	if least.Used > 0 {
		found += fmt.Sprintf(", %d in use", least.Used)
	}
	const do = "set `TasksMax=infinity` in the systemd unit, `--pids-limit -1` in Docker, or raise the limit named above"
	switch {
	// Other programs may have used up what is left.
	case left(least) < tasksToSpare:
		return warning(name, found, "a worker with many threads does not start, or exits when it creates one more", do)
	case least.Max < uint64(f.Range.Len()+tasksBesides): //nolint:gosec // a range has 65,535 ports at most
		return warning(name, found, fmt.Sprintf("the range of %d ports cannot be filled even with one thread per worker", f.Range.Len()), do)
	}
	return ok(name, "%s", found)
}
