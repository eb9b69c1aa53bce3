package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/wire"
)

func (a *app) reload() *cobra.Command {
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
			reply, err := a.hive.Reload(cmd.Context(), dryRun)
			if err != nil {
				return err
			}
			var ids []string
			for _, w := range reply.Value.Workers {
				if w.Action != "current" {
					ids = append(ids, w.WorkerID)
				}
			}
			return a.print(view{
				raw:   reply.Raw,
				ids:   ids,
				table: func(w io.Writer) error { return a.writePlan(w, reply.Value) },
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would change")
	return cmd
}

// writePlan prints one line for each change.
func (a *app) writePlan(w io.Writer, plan wire.Plan) error {
	var rows [][]string
	add := func(what, name, change, detail string) {
		rows = append(rows, []string{what, clean(name), clean(change), orDash(detail)})
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
		return writeLines(w, []string{"nothing has changed"})
	}
	if err := a.writeTable(w, []column{{name: "what"}, {name: "name"}, {name: "change"}, {name: "detail", minWidth: 12}}, rows); err != nil {
		return err
	}
	if plan.DryRun {
		return writeLines(w, []string{fmt.Sprintf("dry run: %d changes, none made", len(rows))})
	}
	return nil
}
