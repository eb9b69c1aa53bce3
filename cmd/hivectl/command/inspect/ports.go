package inspect

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/wire"
)

// Ports shows who holds which port.
func Ports(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "ports",
		Short:   "Show the port range and who holds which port; -q prints the held ports",
		Example: "  hivectl ports\n  hivectl ports -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.Hive.Ports(cmd.Context())
			if err != nil {
				return err
			}
			var ids []string
			for _, h := range reply.Value.Holders {
				ids = append(ids, fmt.Sprint(h.Port))
			}
			return a.Print(cli.View{
				Raw:   reply.Raw,
				IDs:   ids,
				Table: func(w io.Writer) error { return writePorts(a, w, reply.Value) },
			})
		},
	}
}

func writePorts(a *cli.App, w io.Writer, p wire.Ports) error {
	if err := output.Lines(w, []string{portsLine(p)}); err != nil || len(p.Holders) == 0 {
		return err
	}
	var rows [][]string
	for _, h := range p.Holders {
		since := "-"
		if h.Since != nil {
			since = a.Age(*h.Since)
		}
		rows = append(rows, []string{fmt.Sprint(h.Port), output.Clean(h.Kind), output.Or(h.PID), output.Or(h.Program), output.Or(h.User), since})
	}
	return a.Table(w, []output.Column{{Name: "port"}, {Name: "kind"}, {Name: "pid", Drop: 1}, {Name: "program", MinWidth: 8}, {Name: "user", MinWidth: 6, Drop: 2}, {Name: "since", Drop: 3}}, rows)
}

// portsLine is the range in one line; the counts sum to the total.
func portsLine(p wire.Ports) string {
	s := fmt.Sprintf("%s: %d ports, %d free, %d leased, %d foreign, %d draining, %d quarantined, %d reserved",
		output.Clean(p.Range), p.Total, p.Free, p.Leased, p.Foreign, p.Draining, p.Quarantined, p.Reserved)
	if p.Forbidden > 0 {
		s += fmt.Sprintf(", %d forbidden", p.Forbidden)
	}
	return s
}
