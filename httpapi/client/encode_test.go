package client_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// What was seen: a path that is not UTF-8 came to the hive with U+FFFD in it.
func TestWhatJSONCannotCarryIsNotSent(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	type inner struct {
		B []string `json:"b,omitempty"`
	}
	for want, v := range map[string]any{
		`model: "m\xe8.gguf" is not valid UTF-8`:   map[string]string{"model": "m\xe8.gguf"},
		`params.main: "\xff" is not valid UTF-8`:   map[string]any{"params": map[string]string{"a": "è", "main": "\xff"}},
		`a.b[1]: "\xc3" is not valid UTF-8`:        struct{ A *inner }{&inner{[]string{"x", "\xc3"}}},
		`params: "k\xe8" is not valid UTF-8`:       map[string]any{"params": map[string]string{"k\xe8": ""}},
		`owner: "\xed\xa0\x80" is not valid UTF-8`: wire.AcquireLease{Owner: "\xed\xa0\x80"},
	} {
		_, err := client.Encode(v)
		require.ErrorIs(t, err, client.ErrNotUTF8)
		require.ErrorContains(t, err, want)
	}
	raw, err := client.Encode(map[string]any{"model": "è\ufffd", "none": nil, "n": 1})
	require.NoError(t, err)
	require.JSONEq(t, `{"model":"è\ufffd","none":null,"n":1}`, string(raw))

	ctx := testContext(t)
	_, err = c.Submit(ctx, "key", json.RawMessage("{\"model\":\"\xe8\"}"))
	require.EqualError(t, err, "the operation is not valid UTF-8")
	_, err = c.AcquireLease(ctx, wire.AcquireLease{Owner: "\xe8"})
	require.ErrorIs(t, err, client.ErrNotUTF8)
	_, err = c.RenewLease(ctx, 8080, wire.RenewLease{LeaseID: "\xe8"})
	require.ErrorIs(t, err, client.ErrNotUTF8)
	_, err = c.AddToken(ctx, wire.AddToken{Name: "\xe8"})
	require.ErrorIs(t, err, client.ErrNotUTF8)
	_, err = c.Type(ctx, "cpu", client.TypeQuery{Params: map[string]string{"main": "\xe8"}})
	require.EqualError(t, err, `params.main: "\xe8" is not valid UTF-8`)
}
