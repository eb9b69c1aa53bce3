package admin

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/cli"
	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// Tokens is the commands for tokens.
func Tokens(a *cli.App) *cobra.Command {
	return cli.Group("tokens", "Create, list and revoke tokens for callers that are not identified by their user", "  hivectl tokens list",
		tokensList(a), tokensAdd(a), tokensRotate(a), tokensRevoke(a))
}

func tokensList(a *cli.App) *cobra.Command {
	return a.Lister(&cobra.Command{
		Use:     "list",
		Short:   "List the tokens, without their secrets; -q prints the names",
		Example: "  hivectl tokens list",
	}, func(ctx context.Context) (cli.Listing, error) {
		reply, err := a.Hive.Tokens(ctx)
		if err != nil {
			return cli.Listing{}, err
		}
		items, err := cli.ItemsOf(reply.Raw, "tokens")
		if err != nil {
			return cli.Listing{}, err
		}
		l := cli.Listing{Raw: reply.Raw, Items: items, Columns: []output.Column{
			{Name: "token"}, {Name: "may", Least: 8}, {Name: "age", Drop: 2}, {Name: "expires", Drop: 1}, {Name: "by", Least: 8, Drop: 3},
		}}
		for _, t := range reply.Value.Tokens {
			l.IDs = append(l.IDs, t.Name)
			l.Rows = append(l.Rows, []string{output.Clean(t.Name), tokenMay(t), a.Age(t.CreatedAt), tokenExpires(a, t), cli.RequesterName(t.CreatedBy)})
		}
		return l, nil
	})
}

func tokenMay(t wire.Token) string {
	if len(t.Types) > 0 {
		return output.Clean(t.Level + " " + strings.Join(t.Types, ","))
	}
	return output.Clean(t.Level)
}

func tokenExpires(a *cli.App, t wire.Token) string {
	switch {
	case t.ExpiresAt == nil:
		return "never"
	case t.Expired:
		return a.Paint(output.Red, "expired")
	}
	return output.Clock(*t.ExpiresAt)
}

func tokensAdd(a *cli.App) *cobra.Command {
	var read, admin bool
	var types []string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Create a token and print its secret, which is shown only once",
		Long: "Create a token and print its secret, which is shown only once: hive keeps only a hash.\n\n" +
			"One of these is required: --read may read everything and change nothing, --types may\n" +
			"also start, stop and restart workers of these types and lease ports, --admin may do\n" +
			"everything.",
		Example: "  hivectl tokens add grafana --read\n" +
			"  hivectl tokens add ci --types cpu --expires 720h -q > ci.token\n" +
			"  hivectl tokens add laptop --admin",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := wire.AddToken{Name: args[0]}
			// One and no more: of two the stronger would count, which is the mistake that hurts.
			switch {
			case read && !admin && len(types) == 0:
				req.Level = "read"
			case admin && !read && len(types) == 0:
				req.Level = "admin"
			case len(types) > 0 && !read && !admin:
				req.Level, req.Types = "operate", types
			default:
				return cli.Usage("one of --read, --types and --admin is required", "")
			}
			// Also for 0s, which the API refuses: taken for "not given" it would be a token for ever.
			if cmd.Flags().Changed("expires") {
				req.ExpiresIn = expires.String()
			}
			reply, err := a.Hive.AddToken(cmd.Context(), req)
			if err != nil {
				return err
			}
			return printSecret(a, reply)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&read, "read", false, "it may read everything and change nothing")
	flags.StringSliceVar(&types, "types", nil, "it may also start and stop workers of these `types`")
	flags.BoolVar(&admin, "admin", false, "it may do everything")
	flags.DurationVar(&expires, "expires", 0, "how long it is valid, such as 720h (default until it is revoked)")
	cli.CompleteFlag(cmd, "types", a.Complete(cli.TypeOffers))
	return cmd
}

// printSecret prints a token and its secret; with -q the secret alone, for a file.
func printSecret(a *cli.App, reply client.Reply[wire.TokenSecret]) error {
	t := reply.Value.Token
	return a.Print(cli.View{
		Raw: reply.Raw, IDs: []string{output.Clean(reply.Value.Secret)},
		Table: func(w io.Writer) error {
			return output.Fields(w, [][2]string{
				{"token", output.Clean(t.Name)},
				{"may", tokenMay(t)},
				{"expires", tokenExpires(a, t)},
				{"secret", output.Clean(reply.Value.Secret)},
				{"use", "put the secret into a file of mode 0600, then hivectl --token-file FILE; it is not shown again"},
			})
		},
	})
}

func tokensRotate(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:               "rotate NAME",
		Short:             "Give a token a new secret; the old one becomes invalid",
		Example:           "  hivectl tokens rotate ci",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.First(tokenOffers)),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.Hive.RotateToken(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printSecret(a, reply)
		},
	}
}

func tokensRevoke(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:               "revoke NAME",
		Short:             "Revoke a token, and close the connections that use it",
		Example:           "  hivectl tokens revoke laptop",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.Complete(cli.First(tokenOffers)),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.Hive.RevokeToken(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.Print(cli.View{Raw: reply.Raw, IDs: []string{reply.Value.Name}, Table: func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s revoked\n", output.Clean(reply.Value.Name))
				return err
			}})
		},
	}
}

// tokenOffers offers the names of tokens.
func tokenOffers(ctx context.Context, hive *client.Client, _ []string) ([]cobra.Completion, error) {
	reply, err := hive.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, t := range reply.Value.Tokens {
		found = append(found, cli.Offer(t.Name, "%s", tokenMay(t)))
	}
	return found, nil
}
