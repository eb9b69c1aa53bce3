package command

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of hivectl (status shows that of the hive)",
		Example: "  hivectl version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			raw, err := json.Marshal(map[string]string{"version": a.env.Version, "go": runtime.Version()})
			if err != nil {
				return fmt.Errorf("encode the version: %w", err)
			}
			return a.print(view{
				raw: raw,
				ids: []string{a.env.Version},
				table: func(w io.Writer) error {
					return writeLines(w, []string{"hivectl " + a.env.Version + " " + runtime.Version()})
				},
			})
		},
	}
}
