package client

import (
	"context"
	"io"
	"net/http"

	"rbeehive/httpapi/client/api"
	"rbeehive/httpapi/wire"
)

// Tokens returns the tokens of the hive, without their secrets.
func (c *Client) Tokens(ctx context.Context) (Reply[wire.Tokens], error) {
	return call[wire.Tokens](ctx, c, api.NewListTokensRequest)
}

// AddToken makes a token. Its secret is in the answer and nowhere else.
func (c *Client) AddToken(ctx context.Context, req wire.AddToken) (Reply[wire.TokenSecret], error) {
	return call[wire.TokenSecret](ctx, c, encoded(req, func(server string, body io.Reader) (*http.Request, error) {
		return api.NewAddTokenRequestWithBody(server, jsonType, body)
	}))
}

// RotateToken gives a token a new secret.
func (c *Client) RotateToken(ctx context.Context, name string) (Reply[wire.TokenSecret], error) {
	return call[wire.TokenSecret](ctx, c, named(name, func(server string) (*http.Request, error) {
		return api.NewRotateTokenRequest(server, name)
	}))
}

// RevokeToken removes a token.
func (c *Client) RevokeToken(ctx context.Context, name string) (Reply[wire.Revoked], error) {
	return call[wire.Revoked](ctx, c, named(name, func(server string) (*http.Request, error) {
		return api.NewRevokeTokenRequest(server, name)
	}))
}
