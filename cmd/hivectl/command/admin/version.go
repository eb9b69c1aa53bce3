package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
)

// Version shows the version of hivectl itself.
func Version(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of hivectl (status shows that of the hive)",
		Example: "  hivectl version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			raw, err := json.Marshal(map[string]string{"version": a.Env.Version, "go": runtime.Version()})
			if err != nil {
				return fmt.Errorf("encode the version: %w", err)
			}
			return a.Print(cli.View{
				Raw: raw,
				IDs: []string{a.Env.Version},
				Table: func(w io.Writer) error {
					return output.Lines(w, []string{"hivectl " + a.Env.Version + " " + runtime.Version()})
				},
			})
		},
	}
}
