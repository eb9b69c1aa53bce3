package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/wire"
)

func (a *app) ports() *cobra.Command {
	return &cobra.Command{
		Use:     "ports",
		Short:   "Show the port range and who holds which port; -q prints the held ports",
		Example: "  hivectl ports\n  hivectl ports -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.hive.Ports(cmd.Context())
			if err != nil {
				return err
			}
			var ids []string
			for _, h := range reply.Value.Holders {
				ids = append(ids, fmt.Sprint(h.Port))
			}
			return a.print(view{
				raw:   reply.Raw,
				ids:   ids,
				table: func(w io.Writer) error { return a.writePorts(w, reply.Value) },
			})
		},
	}
}

func (a *app) writePorts(w io.Writer, p wire.Ports) error {
	if err := writeLines(w, []string{portsLine(p)}); err != nil || len(p.Holders) == 0 {
		return err
	}
	var rows [][]string
	for _, h := range p.Holders {
		since := "-"
		if h.Since != nil {
			since = a.age(*h.Since)
		}
		rows = append(rows, []string{fmt.Sprint(h.Port), clean(h.Kind), or(h.PID), or(h.Program), or(h.User), since})
	}
	return a.writeTable(w, []column{{name: "port"}, {name: "kind"}, {name: "pid", drop: 1}, {name: "program", minWidth: 8}, {name: "user", minWidth: 6, drop: 2}, {name: "since", drop: 3}}, rows)
}

// portsLine is the range in one line; the counts sum to the total.
func portsLine(p wire.Ports) string {
	return fmt.Sprintf("%s: %d ports, %d free, %d leased, %d foreign, %d draining, %d quarantined, %d reserved",
		clean(p.Range), p.Total, p.Free, p.Leased, p.Foreign, p.Draining, p.Quarantined, p.Reserved)
}
