package httpapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/errdefs"
	"rbeehive/httpapi"
)

func TestReload(t *testing.T) {
	r := newRig(t, rigOptions{})
	plan := hive.Plan{
		Types:     []hive.TypeChange{{Name: "web", Change: hive.TypeChanged, Keys: []string{"env"}}, {Name: "new", Change: hive.TypeAdded}},
		Workers:   []hive.WorkerChange{{WorkerID: "web-1-x", Type: "web", Port: 1, Action: hive.ActionStale, Reason: "why"}},
		NeedStart: []string{"listen"},
	}
	var fault error
	log, logged := captureLog()
	server := httpapi.New(httpapi.Options{Access: anyone(), Log: log, Reload: func(_ context.Context, dryRun bool) (hive.Plan, error) {
		plan.DryRun = dryRun
		return plan, fault
	}})
	server.SetHive(r.hive)
	send := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		req := localRequest(method, path)
		server.Handler().ServeHTTP(w, req)
		return w.Code, w.Body.String()
	}

	code, body := send(http.MethodPost, "/v1/reload?dry_run=1")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, `{"dry_run":true,"types":[{"name":"web","change":"changed","keys":["env"]},{"name":"new","change":"added","keys":[]}],`+
		`"workers":[{"worker_id":"web-1-x","name":null,"type":"web","port":1,"action":"stale","reason":"why"}],`+
		`"autostart":[],"applied":[],"need_start":["listen"]}`+"\n", body)
	_, body = send(http.MethodPost, "/v1/reload")
	require.Contains(t, body, `"dry_run":false`)
	code, body = send(http.MethodPost, "/v1/reload?dry_run=perhaps")
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, body, "dry_run: true or false is expected")
	for _, broken := range []string{"dry_run=%zz", "dry_run=1;x=2", "dry_run=1%"} {
		code, body = send(http.MethodPost, "/v1/reload?"+broken)
		require.Equal(t, http.StatusBadRequest, code, broken)
		require.Contains(t, body, "query: is not well formed", broken)
	}
	code, body = send(http.MethodPost, "/v1/reload?dryrun=1")
	require.Equal(t, http.StatusBadRequest, code, "it reloaded")
	require.Contains(t, body, `dryrun: is not known here; expected dry_run; did you mean \"dry_run\"?`)
	code, _ = send(http.MethodGet, "/v1/reload")
	require.Equal(t, http.StatusMethodNotAllowed, code)

	fault = &errdefs.InputError{Kind: errdefs.ErrInvalidConfiguration, Detail: `hive.yaml:2: ports: unknown key "rnage"`}
	code, body = send(http.MethodPost, "/v1/reload")
	require.Equal(t, http.StatusConflict, code)
	require.Contains(t, body, `"detail":"hive.yaml:2: ports: unknown key \"rnage\"","code":"invalid_configuration"`)
	require.NotContains(t, logged(), "level=error", "a mistake of the caller is no failure of ours")

	_, body = r.send(http.MethodPost, "/v1/reload", "")
	require.Contains(t, body, `"code":"not_found"`, "without Options.Reload there is no such route")
}
