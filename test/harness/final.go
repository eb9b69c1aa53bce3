package harness

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Check is one condition of FinalChecks: it returns what still contradicts it.
type Check func(ctx context.Context) (objection string, err error)

// FinalChecks waits until the checks are met, and until no lease and no process of a
// worker is left.
func (i *Instance) FinalChecks(ctx context.Context, timeout time.Duration, checks ...Check) error {
	checks = append(checks, i.noLease, i.noMember)
	return Eventually(ctx, timeout, func() (string, error) {
		for _, check := range checks {
			if objection, err := check(ctx); err != nil || objection != "" {
				return objection, err
			}
		}
		return "", nil
	})
}

func (i *Instance) noLease(ctx context.Context) (string, error) {
	leases, err := i.Leases(ctx)
	if err != nil || len(leases) == 0 {
		return "", err
	}
	return fmt.Sprintf("%d leases are left, one of them of port %d, %s", len(leases), leases[0].Port, leases[0].State), nil
}

func (i *Instance) noMember(context.Context) (string, error) {
	members, err := i.Members()
	if err != nil || len(members) == 0 {
		return "", err
	}
	return fmt.Sprintf("%d processes of workers are left, one of them %+v", len(members), members[0]), nil
}

// Usage is what a hive has of the system.
type Usage struct{ FDs, Threads, Goroutines int }

func (u Usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads and %d goroutines", u.FDs, u.Threads, u.Goroutines)
}

// Usage is what the hive that runs has now, by its metrics, without connections that
// this program keeps.
func (i *Instance) Usage(ctx context.Context) (u Usage, err error) {
	i.transport.CloseIdleConnections()
	text, err := i.Text(ctx, "/metrics")
	if err != nil {
		return u, err
	}
	values := map[string]int{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = int(n)
		}
	}
	u = Usage{FDs: values["process_open_fds"], Threads: values["go_threads"], Goroutines: values["go_goroutines"]}
	if u.FDs == 0 || u.Threads == 0 || u.Goroutines == 0 {
		return u, errors.New("GET /metrics: a count is missing")
	}
	return u, nil
}

// UsesAtMost is the check that hive has at most so much more than before.
func (i *Instance) UsesAtMost(before, more Usage) Check {
	return func(ctx context.Context) (string, error) {
		now, err := i.Usage(ctx)
		if err != nil || now.FDs <= before.FDs+more.FDs && now.Threads <= before.Threads+more.Threads && now.Goroutines <= before.Goroutines+more.Goroutines {
			return "", err
		}
		return fmt.Sprintf("hive has %s, at the start it had %s", now, before), nil
	}
}
