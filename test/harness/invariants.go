package harness

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
)

// Contradiction is something that is so in the processes and otherwise in what hive
// says of them. An ORPHAN is a worker's process without a record; a LEAK a worker's
// lease without a process; a DOUBLE a port with two holders; WRONG is a worker whose
// record, lease and process do not agree.
type Contradiction struct{ Kind, Text string }

// How long a contradiction must last until it counts. A gate whose hive was killed needs
// a moment to see end-of-file and exit, and hive carries on with interrupted stops while
// it is looked at. Both take longer on a busy machine, and so do the looks: that is why
// they are counted, too.
const (
	lastingTime  = 3 * time.Second
	lastingLooks = 100
)

// Contradictions returns those that last; none as soon as there are none. A look at a hive
// that changed meanwhile does not count: what it finds may be the change. The error is
// ErrTimeout if hive does not come to rest within a minute.
func (i *Instance) Contradictions(ctx context.Context) ([]Contradiction, error) {
	var found []Contradiction
	var last view
	looks, since := 0, time.Now()
	err := Eventually(ctx, time.Minute, func() (string, error) {
		before, err := i.view(ctx)
		if err != nil {
			return "", err
		}
		procs, err := i.Members()
		if err != nil {
			return "", err
		}
		after, err := i.view(ctx)
		switch {
		case err != nil:
			return "", err
		case !reflect.DeepEqual(before, after):
			return "hive is still changing something", nil
		case !reflect.DeepEqual(last, after):
			last, looks, since = after, 0, time.Now()
		}
		looks++
		found = append(orphans(procs, after.live), disagreements(procs, after)...)
		if len(found) == 0 || looks >= lastingLooks && time.Since(since) > lastingTime {
			return "", nil
		}
		return found[0].Text, nil
	})
	return found, err
}

// view is what hive says at a moment.
type view struct {
	live   map[string]wire.Worker
	leases []wire.Lease
}

func (i *Instance) view(ctx context.Context) (v view, err error) {
	if v.live, err = i.Live(ctx); err != nil {
		return v, err
	}
	v.leases, err = i.Leases(ctx)
	return v, err
}

func orphans(procs []Member, live map[string]wire.Worker) (found []Contradiction) {
	holder := map[string]string{} // port -> worker
	for _, p := range procs {
		port := portOf(p.Worker)
		if other := holder[port]; other != "" && other != p.Worker {
			found = append(found, Contradiction{"DOUBLE", fmt.Sprintf("%s and %s live on port %s", other, p.Worker, port)})
		}
		holder[port] = p.Worker
		if _, ok := live[p.Worker]; !ok {
			found = append(found, Contradiction{"ORPHAN", fmt.Sprintf("pid %d of %s has no record", p.PID, p.Worker)})
		}
	}
	return found
}

func disagreements(procs []Member, v view) (found []Contradiction) {
	running := map[string]int{}
	for _, p := range procs {
		running[p.Worker] = p.PID
	}
	leased := map[string]wire.Lease{}
	taken := map[uint16]bool{}
	for _, l := range v.leases {
		// A lease of several ports is listed at each of them.
		if taken[l.Port] {
			found = append(found, Contradiction{"DOUBLE", fmt.Sprintf("two leases of port %d", l.Port)})
		}
		taken[l.Port] = true
		switch {
		case l.Kind != "worker":
		case l.WorkerID == nil || running[*l.WorkerID] == 0:
			found = append(found, Contradiction{"LEAK", fmt.Sprintf("port %d is leased (%s) and no process holds it", l.Port, l.State)})
		default:
			leased[*l.WorkerID] = l
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.live)) {
		w := v.live[id]
		l, ok := leased[id]
		if !ok || l.Port != w.Port || w.PID == nil || l.PID == nil || *w.PID != *l.PID || *w.PID != running[id] {
			found = append(found, Contradiction{"WRONG", fmt.Sprintf("worker %s is %s on port %d with process %d, and its lease does not agree: %+v", id, w.State, w.Port, running[id], l)})
		}
	}
	return found
}

// portOf reads the port from a worker's id, <type>-<port>-<6>.
func portOf(worker string) string {
	f := strings.Split(worker, "-")
	return f[len(f)-2]
}
