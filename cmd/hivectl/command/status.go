package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/wire"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the hive: version, last recovery, workers and ports in numbers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hive, err := a.hive.Hive(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(view{
				raw: hive.Raw,
				ids: []string{hive.Value.HiveID},
				table: func(w io.Writer) error {
					workers, err := a.hive.Workers(cmd.Context())
					if err != nil {
						return err
					}
					ports, err := a.hive.Ports(cmd.Context())
					if err != nil {
						return err
					}
					return a.writeFields(w, a.statusFields(hive.Value, workers.Value.Workers, ports.Value))
				},
			})
		},
	}
}

func (a *app) statusFields(h wire.Hive, workers []wire.Worker, p wire.Ports) [][2]string {
	return [][2]string{
		{"hive", clean(h.HiveID) + " at " + a.hive.Addr()},
		{"version", clean(h.Version)},
		{"started", clock(h.StartedAt) + " (" + a.age(h.StartedAt) + " ago)"},
		{"recovery", recoveryText(h.Recovery)},
		{"workers", workerCounts(workers)},
		{"ports", portsLine(p)},
	}
}

func recoveryText(r wire.Recovery) string {
	text := fmt.Sprintf("%d adopted, %d freed, %d restarted, %d unverified in %d ms", r.Adopted, r.Freed, r.Restarted, r.Unverified, r.TookMS)
	if r.Orphans != nil {
		text += fmt.Sprintf("; %d processes without a record", *r.Orphans)
	}
	return text
}

// workerCounts counts workers by state, in the order of the states' names.
func workerCounts(workers []wire.Worker) string {
	counts := map[string]int{}
	var states []string
	for _, w := range workers {
		if counts[w.State] == 0 {
			states = append(states, w.State)
		}
		counts[w.State]++
	}
	if len(states) == 0 {
		return "none"
	}
	slices.Sort(states)
	var parts []string
	for _, s := range states {
		parts = append(parts, fmt.Sprintf("%d %s", counts[s], clean(s)))
	}
	return strings.Join(parts, ", ")
}
