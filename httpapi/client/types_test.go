package client_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/client"
)

func TestTypes(t *testing.T) {
	var asked string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RequestURI()
		if r.URL.Path == "/v1/types" {
			writeJSON(w, 200, `{"types":[{"name":"cpu","installed":true,"news":1}],"next":""}`)
			return
		}
		writeJSON(w, 200, `{"name":"cpu","command":["hive","worker"],"env":[{"name":"A","value":null,"from":"entry"}]}`)
	})
	list, err := c.Types(testContext(t), false)
	require.NoError(t, err)
	require.Equal(t, "/v1/types", asked)
	require.Equal(t, "cpu", list.Value.Types[0].Name)
	require.Contains(t, string(list.Raw), "news")
	_, err = c.Types(testContext(t), true)
	require.NoError(t, err)
	require.Equal(t, "/v1/types?version=true", asked)

	d, err := c.Type(testContext(t), "a/b", client.TypeQuery{})
	require.NoError(t, err)
	require.Equal(t, "/v1/types/a%2Fb", asked)
	require.Equal(t, []string{"hive", "worker"}, d.Value.Command)
	require.Nil(t, d.Value.Env[0].Value)
	_, err = c.Type(testContext(t), "cpu", client.TypeQuery{
		Model: "m", Device: "0", Name: "n", Port: 8080, Params: map[string]string{"ctx": "1&2"}, Version: true,
	})
	require.NoError(t, err)
	require.Equal(t, "/v1/types/cpu?device=0&model=m&name=n&param.ctx=1%262&port=8080&version=true", asked)
}
