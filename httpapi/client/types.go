package client

import (
	"context"
	"net/http"
	"reflect"

	"rbeehive/httpapi/client/api"
	"rbeehive/httpapi/wire"
)

// Types returns the worker types by name. With versions the hive runs each
// installed program that can tell its version, which takes up to a few seconds.
func (c *Client) Types(ctx context.Context, versions bool) (Reply[wire.Types], error) {
	return call[wire.Types](ctx, c, func(server string) (*http.Request, error) {
		return api.NewListTypesRequest(server, &wire.ListTypesParams{Version: opt(wire.Switch(versions))})
	})
}

// TypeQuery is the spawn that is asked about; zero values are left to the type.
type TypeQuery struct {
	Model   string
	Device  string
	Name    string
	Port    uint16
	Params  map[string]string
	Version bool // the hive runs the program to learn its version
}

// Type returns a worker type and what a spawn of it would do. Nothing is spawned.
func (c *Client) Type(ctx context.Context, name string, q TypeQuery) (Reply[wire.TypeDetail], error) {
	// A URL could carry any byte; what up would refuse is refused here too.
	if err := checkTexts("", reflect.ValueOf(q)); err != nil {
		return Reply[wire.TypeDetail]{}, err
	}
	params := &wire.GetTypeParams{
		Model: opt(q.Model), Device: opt(q.Device), WorkerName: opt(q.Name), Port: opt(wire.Port(q.Port)), Version: opt(wire.Switch(q.Version)),
	}
	return call[wire.TypeDetail](ctx, c, named(name, func(server string) (*http.Request, error) {
		req, err := api.NewGetTypeRequest(server, name, params)
		if err != nil {
			return nil, err
		}
		query := req.URL.Query()
		for key, value := range q.Params {
			query.Set("param."+key, value) // free names, which the contract has in words only
		}
		req.URL.RawQuery = query.Encode()
		return req, nil
	}))
}
