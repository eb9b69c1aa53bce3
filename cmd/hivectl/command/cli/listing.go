package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rbeehive/cmd/hivectl/command/output"
)

// Listing is a list of things: what the API said, and a row for each of them.
type Listing struct {
	Raw     json.RawMessage
	Items   []json.RawMessage // as the API returned them, one per row
	IDs     []string          // one per row: what -q prints
	Columns []output.Column
	Rows    [][]string
	Next    string // how to get the next page; empty: it is the last
}

// Lister is a command that prints a list, once or, with --watch, whenever it changes.
// fetch is called again and again then.
func (a *App) Lister(cmd *cobra.Command, fetch func(context.Context) (Listing, error)) *cobra.Command {
	watch := false
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// Watching waits for a hive that is away. This first request does not, so that a wrong
		// address is an error at once.
		l, err := fetch(cmd.Context())
		if err != nil {
			return err
		}
		if watch {
			return a.watchList(cmd.Context(), l, fetch)
		}
		if err := a.Print(a.listView(l)); err != nil {
			return err
		}
		// On Stderr, so that what is piped is the table alone.
		if l.Next != "" && a.ForPeople() {
			a.Notice("more: %s", l.Next)
		}
		return nil
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep running and show changes, also over restarts of hive; Ctrl-C ends it")
	return cmd
}

func (a *App) listView(l Listing) View {
	return View{Raw: l.Raw, IDs: l.IDs, Table: func(w io.Writer) error { return a.Table(w, l.Columns, l.Rows) }}
}

// ItemsOf are the elements of the array that an answer of the API holds under key.
func ItemsOf(raw json.RawMessage, key string) ([]json.RawMessage, error) {
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("decode the list of %s: %w", key, err)
	}
	// As they were sent: a change in a field that this build does not know is one, too.
	var items []json.RawMessage
	if err := json.Unmarshal(answer[key], &items); err != nil {
		return nil, fmt.Errorf("decode the list of %s: %w", key, err)
	}
	return items, nil
}
