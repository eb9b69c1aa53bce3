package httpapi_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/httpapi/wire"
)

// Routes are what is served, with the sockets of each ready worker; a worker that is stopped is no replica.
func TestRoutesOfWorkers(t *testing.T) {
	served := entry(t, "mine")
	served.Serve = catalog.ServeEntry{Names: []string{"gpt"}}
	r := newRig(t, rigOptions{}, served, entry(t, "silent"))
	r.spawn("silent")
	route := func() wire.Route {
		t.Helper()
		list := decode[wire.Routes](t, r.get("/v1/routes", http.StatusOK)).Routes
		require.Len(t, list, 1)
		return list[0]
	}
	require.Equal(t, "stopped", route().State)
	require.Empty(t, route().Replicas)
	w := r.spawn("mine")
	got := route()
	require.Equal(t, "ready", got.State)
	require.Contains(t, got.Names, "gpt")
	require.Len(t, got.Replicas, 1)
	replica := got.Replicas[0]
	require.Equal(t, w.WorkerID, replica.WorkerID)
	require.Equal(t, w.URL, replica.URL)
	require.Len(t, replica.Listeners, 1)
	require.NotEqual(t, "0", replica.Listeners[0].Cookie)

	resp, body := r.send(http.MethodPost, "/v1/routes/replicas/"+w.WorkerID, "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, replica, decode[wire.Replica](t, body))
	r.do(`{"operation":"worker_stop","worker_id":"` + w.WorkerID + `"}`)
	require.Empty(t, route().Replicas)
	resp, body = r.send(http.MethodPost, "/v1/routes/replicas/"+w.WorkerID, "")
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	require.Contains(t, body, `"code":"conflict"`)
	resp, _ = r.send(http.MethodPost, "/v1/routes/replicas/none", "")
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
}
