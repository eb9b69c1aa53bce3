package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

func (a *app) tokens() *cobra.Command {
	return group("tokens", "Make, list and revoke tokens for callers who are not known by their user", "  hivectl tokens list",
		a.tokensList(), a.tokensAdd(), a.tokensRotate(), a.tokensRevoke())
}

func (a *app) tokensList() *cobra.Command {
	return a.lister(&cobra.Command{
		Use:     "list",
		Short:   "List the tokens, without their secrets; -q prints the names",
		Example: "  hivectl tokens list",
	}, func(ctx context.Context) (listing, error) {
		reply, err := a.hive.Tokens(ctx)
		if err != nil {
			return listing{}, err
		}
		items, err := itemsOf(reply.Raw, "tokens")
		if err != nil {
			return listing{}, err
		}
		l := listing{raw: reply.Raw, items: items, columns: []column{
			{name: "token"}, {name: "may", least: 8}, {name: "age", drop: 2}, {name: "expires", drop: 1}, {name: "by", least: 8, drop: 3},
		}}
		for _, t := range reply.Value.Tokens {
			l.ids = append(l.ids, t.Name)
			l.rows = append(l.rows, []string{clean(t.Name), tokenMay(t), a.age(t.CreatedAt), a.tokenExpires(t), requesterName(t.CreatedBy)})
		}
		return l, nil
	})
}

func tokenMay(t wire.Token) string {
	if len(t.Types) > 0 {
		return clean(t.Level + " " + strings.Join(t.Types, ","))
	}
	return clean(t.Level)
}

func (a *app) tokenExpires(t wire.Token) string {
	switch {
	case t.ExpiresAt == nil:
		return "never"
	case t.Expired:
		return a.paint(red, "expired")
	}
	return clock(*t.ExpiresAt)
}

func (a *app) tokensAdd() *cobra.Command {
	var read, admin bool
	var types []string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a token and print its secret, which is shown this once",
		Long: "Make a token and print its secret, which is shown this once: hive keeps only a hash.\n\n" +
			"What it is for has to be said: --read looks at everything and changes nothing, --types\n" +
			"also starts, stops and restarts workers of these types and leases ports, --admin does everything.",
		Example: "  hivectl tokens add grafana --read\n" +
			"  hivectl tokens add ci --types cpu --expires 720h -q > ci.token\n" +
			"  hivectl tokens add laptop --admin",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := wire.AddToken{Name: args[0]}
			switch {
			case read && !admin && len(types) == 0:
				req.Level = "read"
			case admin && !read && len(types) == 0:
				req.Level = "admin"
			case len(types) > 0 && !read && !admin:
				req.Level, req.Types = "operate", types
			default:
				return usage("say what the token is for: one of --read, --types and --admin", "")
			}
			if cmd.Flags().Changed("expires") {
				req.ExpiresIn = expires.String()
			}
			reply, err := a.hive.AddToken(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.printSecret(reply)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&read, "read", false, "it looks at everything and changes nothing")
	flags.StringSliceVar(&types, "types", nil, "it also starts and stops workers of these `types`")
	flags.BoolVar(&admin, "admin", false, "it does everything")
	flags.DurationVar(&expires, "expires", 0, "how long it counts, such as 720h (default until it is revoked)")
	completeFlag(cmd, "types", a.complete(typeOffers))
	return cmd
}

// printSecret prints a token and its secret; with -q the secret alone, for a file.
func (a *app) printSecret(reply client.Reply[wire.TokenSecret]) error {
	t := reply.Value.Token
	return a.print(view{
		raw: reply.Raw, ids: []string{clean(reply.Value.Secret)},
		table: func(w io.Writer) error {
			return writeFields(w, [][2]string{
				{"token", clean(t.Name)},
				{"may", tokenMay(t)},
				{"expires", a.tokenExpires(t)},
				{"secret", clean(reply.Value.Secret)},
				{"use", "put the secret into a file of mode 0600, then hivectl --token-file FILE; it is not shown again"},
			})
		},
	})
}

func (a *app) tokensRotate() *cobra.Command {
	return &cobra.Command{
		Use:               "rotate NAME",
		Short:             "Give a token a new secret; the old one no longer counts",
		Example:           "  hivectl tokens rotate ci",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(first(tokenOffers)),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.hive.RotateToken(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printSecret(reply)
		},
	}
}

func (a *app) tokensRevoke() *cobra.Command {
	return &cobra.Command{
		Use:               "revoke NAME",
		Short:             "Remove a token, and end what came by it",
		Example:           "  hivectl tokens revoke laptop",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(first(tokenOffers)),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := a.hive.RevokeToken(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(view{raw: reply.Raw, ids: []string{reply.Value.Name}, table: func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s no longer counts\n", clean(reply.Value.Name))
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
		found = append(found, offer(t.Name, "%s", tokenMay(t)))
	}
	return found, nil
}
