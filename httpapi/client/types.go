package client

import (
	"context"
	"net/url"
	"strconv"

	"rbeehive/httpapi/wire"
)

// Types returns the worker types by name. With versions the hive runs each
// installed program that can tell its version, which takes up to a few seconds.
func (c *Client) Types(ctx context.Context, versions bool) (Reply[wire.Types], error) {
	query := url.Values{}
	if versions {
		query.Set("version", "1")
	}
	return call[wire.Types](ctx, c, get("/v1/types", query))
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
	query := url.Values{}
	for key, value := range map[string]string{"model": q.Model, "device": q.Device, "name": q.Name} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if q.Port != 0 {
		query.Set("port", strconv.Itoa(int(q.Port)))
	}
	for key, value := range q.Params {
		query.Set("param."+key, value)
	}
	if q.Version {
		query.Set("version", "1")
	}
	return call[wire.TypeDetail](ctx, c, get("/v1/types/"+url.PathEscape(name), query))
}
