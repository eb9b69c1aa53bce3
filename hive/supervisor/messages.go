package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/launch"
	"rbeehive/hive/logs"
	"rbeehive/store"
)

// portMessage says which port was leased, and who holds those passed over.
func portMessage(res *alloc.Reservation, rec store.Worker) string {
	var b strings.Builder
	if res.NameMoved {
		fmt.Fprintf(&b, "%s had port %d last time, which is not free; ", rec.Name, res.Former)
	}
	for _, s := range res.Skipped {
		fmt.Fprintf(&b, "%d is held by %s; ", s.Port, s)
	}
	ports := alloc.Range{First: rec.Port, Last: rec.Ports[len(rec.Ports)-1]}
	switch {
	case b.Len() > 0:
		return fmt.Sprintf("%stook %s", b.String(), ports)
	case len(rec.Ports) > 1:
		return fmt.Sprintf("ports %s leased", ports)
	}
	return fmt.Sprintf("port %d leased", rec.Port)
}

func portsOf(skipped []sockets.Holder) []uint16 {
	ports := []uint16{}
	for _, s := range skipped {
		ports = append(ports, s.Port)
	}
	return ports
}

// saysInUse recognises how programs say EADDRINUSE: strerror(3) of glibc and musl,
// the names of Node and Python, and llama-server's own words.
func saysInUse(line string) bool {
	line = strings.ToLower(line)
	return slices.ContainsFunc([]string{"address already in use", "address in use", "eaddrinuse", "errno 98", "couldn't bind http server socket"},
		func(words string) bool { return strings.Contains(line, words) })
}

func logExit(rec store.Worker) {
	what := "unknown exit"
	if rec.Exit != nil {
		what = launch.DescribeExit(*rec.Exit)
	}
	// In backoff it has no process.
	pid := 0
	if rec.Identity != nil {
		pid = rec.Identity.PID
	}
	logs.Printf(rec.Log, "exited pid %d port %d %s: %s", pid, rec.Port, rec.EndedAt.UTC().Format(time.RFC3339), what)
}
