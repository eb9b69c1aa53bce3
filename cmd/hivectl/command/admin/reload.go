package admin

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/wire"
)

// Reload has the hive read its configuration again.
func Reload(a *cli.App) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration of the hive",
		Long: "reload has the hive read its configuration file again, and prints what that changes. If\n" +
			"the file is invalid, that is an error and nothing is changed.\n\n" +
			"Workers keep running. One whose type has changed is stale until it is restarted: on\n" +
			"request, or immediately if its type has reload: restart. With --dry-run nothing is\n" +
			"changed.\n\n" +
			"-q prints the ids of the workers that become stale or are restarted.",
		Example: "  hivectl reload --dry-run\n  hivectl reload",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.Hive.Reload(cmd.Context(), dryRun)
			if err != nil {
				return err
			}
			var ids []string
			for _, w := range reply.Value.Workers {
				if w.Action != "current" {
					ids = append(ids, w.WorkerID)
				}
			}
			return a.Print(cli.View{
				Raw:   reply.Raw,
				IDs:   ids,
				Table: func(w io.Writer) error { return writePlan(a, w, reply.Value) },
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	return cmd
}

// writePlan prints one line for each change.
func writePlan(a *cli.App, w io.Writer, plan wire.Plan) error {
	var rows [][]string
	add := func(what, name, change, detail string) {
		rows = append(rows, []string{what, output.Clean(name), output.Clean(change), output.OrDash(detail)})
	}
	for _, t := range plan.Types {
		add("type", t.Name, t.Change, strings.Join(t.Keys, ", "))
	}
	for _, c := range plan.Workers {
		add("worker", c.WorkerID, c.Action, c.Reason)
	}
	for _, name := range plan.Autostart {
		add("autostart", name, "start", "no worker of it is alive")
	}
	for _, key := range plan.Applied {
		add("setting", key, "applied", "")
	}
	for _, key := range plan.NeedStart {
		add("setting", key, "pending", "needs a restart of hive")
	}
	if len(rows) == 0 {
		return output.Lines(w, []string{"nothing has changed"})
	}
	if err := a.Table(w, []output.Column{{Name: "what"}, {Name: "name"}, {Name: "change"}, {Name: "detail", Least: 12}}, rows); err != nil {
		return err
	}
	if plan.DryRun {
		return output.Lines(w, []string{fmt.Sprintf("dry run: %d changes, none made", len(rows))})
	}
	return nil
}
