package client_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDoctor(t *testing.T) {
	const body = `{"checks":[{"name":"ports","status":"ok","found":"f","means":null,"do":null},{"name":"disk","status":"warning","found":"f","means":"m","do":"d","new":1}],"warnings":1}`
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/v1/doctor", r.URL.Path)
		writeJSON(w, 200, body)
	})
	reply, err := c.Doctor(testContext(t))
	require.NoError(t, err)
	require.JSONEq(t, body, string(reply.Raw))
	require.Equal(t, 1, reply.Value.Warnings)
	require.Nil(t, reply.Value.Checks[0].Means)
	require.Equal(t, "d", *reply.Value.Checks[1].Do)
}
