package inspect

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/wire"
)

const (
	// doctorWidth is for reading: longer lines are harder, also where there is room.
	doctorWidth = 80
	// minTextWidth is what remains for a text beside its labels, however narrow
	// the terminal.
	minTextWidth = 24
)

// Doctor checks the hive and the machine.
func Doctor(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check the hive and the machine: what was found, what it means, what to do",
		Long: "doctor has the hive check itself and the machine it runs on. Nothing is changed.\n\n" +
			"The status of each check is ok, warning, or unknown if hive cannot see it. The exit\n" +
			"code is 1 if there are warnings, else 0. -q prints the names of those checks.",
		Example: "  hivectl doctor\n  hivectl doctor -q",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.Hive.Doctor(cmd.Context())
			if err != nil {
				return err
			}
			names := warnings(reply.Value.Checks)
			err = a.Print(cli.View{
				Raw:   reply.Raw,
				IDs:   names,
				Table: func(w io.Writer) error { return output.Lines(w, doctorLines(a, reply.Value.Checks)) },
			})
			if err != nil || len(names) == 0 {
				return err
			}
			return &cli.Reported{Code: cli.ExitFailed}
		},
	}
}

// warnings names the checks with that status.
func warnings(checks []wire.Checkup) []string {
	var names []string
	for _, c := range checks {
		if c.Status == "warning" {
			names = append(names, output.Clean(c.Name))
		}
	}
	return names
}

// doctorLines writes a line for each check, and below those that are not ok what
// it means and what to do. Long texts are wrapped: this is prose, not a table.
func doctorLines(a *cli.App, checks []wire.Checkup) []string {
	status, name := len("unknown"), len("means")
	for _, c := range checks {
		status, name = max(status, utf8.RuneCountInString(c.Status)), max(name, utf8.RuneCountInString(c.Name))
	}
	width := doctorWidth
	if a.Env.Width > 0 {
		width = min(width, a.Env.Width)
	}
	width = max(width-status-name-4, minTextWidth)
	var lines []string
	add := func(paint func(string) string, first, second, text string) {
		for _, part := range output.Wrap(output.Clean(text), width) {
			// Padded before it is painted: the bytes of a colour have no width.
			lines = append(lines, strings.TrimRight(paint(output.Pad(first, status))+"  "+output.Pad(second, name)+"  "+part, " "))
			first, second, paint = "", "", unpainted
		}
	}
	counts := map[string]int{}
	for _, c := range checks {
		counts[c.Status]++
		add(condition(a, c.Status), output.Clean(c.Status), output.Clean(c.Name), c.Found)
		if c.Means != nil {
			add(unpainted, "", "means", *c.Means)
		}
		if c.Do != nil {
			add(unpainted, "", "do", *c.Do)
		}
	}
	return append(lines, "", doctorSummary(len(checks), counts["warning"], counts["unknown"]))
}

func doctorSummary(all, warnings, unknown int) string {
	text := fmt.Sprintf("%d checks: ", all)
	switch warnings {
	case 0:
		text += "no warnings"
	case 1:
		text += "1 warning"
	default:
		text += fmt.Sprintf("%d warnings", warnings)
	}
	if unknown > 0 {
		text += fmt.Sprintf(", %d unknown", unknown)
	}
	return text
}

// condition is the colour of a check's status.
func condition(a *cli.App, status string) func(string) string {
	colour := map[string]string{"ok": output.Green, "warning": output.Red, "unknown": output.Yellow}[status]
	return func(s string) string { return a.Paint(colour, s) }
}

func unpainted(s string) string { return s }
