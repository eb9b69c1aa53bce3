package inspect

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/wire"
)

// Audit compares records, processes and listeners.
func Audit(a *cli.App) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Compare records, processes and listeners; exit code 1 if they disagree",
		Long: "audit has the hive compare its records with the processes and listeners of the\n" +
			"machine. hive does so by itself every audit.interval, and acts on what it finds twice\n" +
			"in a row. --repair acts immediately: it verifies again what could not be verified,\n" +
			"frees ports that nothing uses any more, and, with audit.orphans: kill, ends processes\n" +
			"that ended leases have left behind.\n\n" +
			"The exit code is 1 if anything is (still) found. -q prints the codes.",
		Example: "  hivectl audit\n  hivectl audit --repair -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.Hive.Audit(cmd.Context(), repair)
			if err != nil {
				return err
			}
			findings := reply.Value.Findings
			var codes []string
			for _, f := range findings {
				codes = append(codes, output.Clean(f.Code))
			}
			// Findings come sorted by code, so Compact leaves each of them once.
			err = a.Print(cli.View{
				Raw:   reply.Raw,
				IDs:   slices.Compact(codes),
				Table: func(w io.Writer) error { return writeFindings(a, w, reply.Value) },
			})
			if err != nil || len(findings) == 0 {
				return err
			}
			return &cli.Reported{Code: cli.ExitFailed}
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "act now, also on what was found only once")
	return cmd
}

// findingHints says what can be done about a finding, by its code.
var findingHints = map[string]string{
	"unverified":            "hive verifies it again at each audit; hivectl doctor shows why it cannot",
	"quarantined":           "end the process that is named, or wait: the port is freed once two audits find nobody on it",
	"lease_without_holder":  "hive frees it once two audits find nobody on the port; hivectl audit --repair does it now",
	"member_without_record": "kill it, or set audit.orphans: kill for what ended leases leave behind",
	"not_listening":         "hivectl logs WORKER; hivectl restart WORKER",
	"foreign_listener":      "end the program that is named; the worker is ready again when it serves alone",
	"other_address":         "nothing to do: the worker is not affected; on the worker's port the program that is named may be mistaken for it",
	"shared_port":           "end the program that is named; the worker is ready again when it serves alone",
	"unleased_port":         "lease the port to the worker too (ports in its entry), or give it another one outside the range",
	"contested_port":        "two hives lease the same port: give them different ranges, and restart one worker",
}

func writeFindings(a *cli.App, w io.Writer, audit wire.Audit) error {
	if len(audit.Findings) == 0 {
		return output.Lines(w, []string{fmt.Sprintf("records, processes and listeners agree (%d ms)", audit.TookMS)})
	}
	var rows [][]string
	for _, f := range audit.Findings {
		rows = append(rows, []string{output.Clean(f.Code), output.Or(f.Port), a.Age(f.Since), fmt.Sprint(f.Sightings), output.Clean(f.Message)})
	}
	if err := a.Table(w, []output.Column{{Name: "code"}, {Name: "port"}, {Name: "for", Drop: 2}, {Name: "seen", Drop: 1}, {Name: "what", Least: 24}}, rows); err != nil {
		return err
	}
	// Below the table, and once per code: a row has no room for a sentence.
	var lines []string
	for i, f := range audit.Findings {
		if hint := findingHints[f.Code]; hint != "" && (i == 0 || audit.Findings[i-1].Code != f.Code) {
			lines = append(lines, output.Clean(f.Code)+": "+hint)
		}
	}
	return output.Lines(w, lines)
}
