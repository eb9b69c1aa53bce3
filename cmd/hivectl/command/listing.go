package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// listing is a list of things: the response of the API, and a row for each of them.
type listing struct {
	raw     json.RawMessage
	items   []json.RawMessage // as the API returned them, one per row
	ids     []string          // one per row: what -q prints
	columns []column
	rows    [][]string
	next    string // how to get the next page; empty: it is the last
}

// listCommand is a command that prints a list, once or, with --watch, whenever it changes.
// fetch is then called repeatedly.
func (a *app) listCommand(cmd *cobra.Command, fetch func(context.Context) (listing, error)) *cobra.Command {
	watch := false
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := fetch(cmd.Context())
		if err != nil {
			return err
		}
		if watch {
			return a.watchList(cmd.Context(), l, fetch)
		}
		if err := a.print(a.listView(l)); err != nil {
			return err
		}
		if l.next != "" && a.forPeople() {
			a.notice("more: %s", l.next)
		}
		return nil
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep running and show changes, also over restarts of hive; Ctrl-C ends it")
	return cmd
}

func (a *app) listView(l listing) view {
	return view{raw: l.raw, ids: l.ids, table: func(w io.Writer) error { return a.writeTable(w, l.columns, l.rows) }}
}

// itemsOf are the elements of the array that a response of the API has under key.
func itemsOf(raw json.RawMessage, key string) ([]json.RawMessage, error) {
	var response map[string]json.RawMessage
	if err := json.Unmarshal(raw, &response); err != nil {
		return nil, fmt.Errorf("decode the list of %s: %w", key, err)
	}
	var items []json.RawMessage
	if err := json.Unmarshal(response[key], &items); err != nil {
		return nil, fmt.Errorf("decode the list of %s: %w", key, err)
	}
	return items, nil
}
