package httpapi_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/httpapi"
)

// What is not in a query is not known: of each route, as the contract says it.
func TestQueriesAreThoseOfTheContract(t *testing.T) {
	routes := document().Queries()
	for route, names := range routes {
		if route == "GET /v1/types/{name}" {
			names = append(names, "param.KEY") // which OpenAPI has no word for
		}
		slices.Sort(names)
		method, path, _ := strings.Cut(route, " ")
		require.Equal(t, names, httpapi.ParametersOf(method, path), route)
	}
	for _, route := range httpapi.Queries() {
		require.Contains(t, routes, route, "a row of a route that there is not")
	}
}

// A reload with ?dryrun=1 was a real one: each route refuses what it does not know,
// and says what it does.
func TestUnknownParametersAreRefused(t *testing.T) {
	log, _ := captureLog()
	s := httpapi.New(httpapi.Options{
		Log: log, Access: anyone(), Shutdown: func() { t.Error("a shutdown") },
		Reload: func(context.Context, bool) (hive.Plan, error) { t.Error("a reload"); return hive.Plan{}, nil },
	})
	h := s.Wrap(s.Router())
	for route, names := range document().Queries() {
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{id}", "x", "{ref}", "x", "{port}", "8080", "{name}", "x", "{file}", "x.css").Replace(path)
		want := "qwertz: is not known here: this route has no parameters"
		if len(names) > 0 {
			want = "qwertz: is not known here; expected "
		}
		for _, raw := range []string{"qwertz=1", "qwertz"} {
			rec := serve(h, localRequest(method, path+"?"+raw))
			require.Equal(t, http.StatusBadRequest, rec.Code, "%s %s", route, rec.Body)
			p := problemOf(t, rec.Result(), rec.Body.String())
			require.Equal(t, "bad_request", p.Code)
			require.Contains(t, p.Detail, want, route)
		}
		for _, name := range names {
			require.Contains(t, serve(h, localRequest(method, path+"?"+name+"=1&"+name+"=1")).Body.String(), name+": is there twice", route)
		}
	}
}

func TestQueries(t *testing.T) {
	names := []string{"dry_run", "param.KEY", "wait"}
	for raw, want := range map[string]string{
		"":                      "",
		"dry_run":               "",
		"dry_run=1&wait=":       "",
		"param.ctx=1&param.n=2": "",
		"param.=1":              "param.: is not known here; expected dry_run, param.KEY, wait",
		"param.a=1&param.a=2":   "param.a: is there twice",
		"wait&wait":             "wait: is there twice",
		"Dry_Run=1":             `Dry_Run: is not known here; expected dry_run, param.KEY, wait; did you mean "dry_run"?`,
		"=1":                    "query: has a parameter without a name",
		"dry_run=1;wait=2":      "query: is not well formed",
		"dry_run=%zz":           "query: is not well formed",
		"a%0ab":                 `a\nb: is not known here`,
	} {
		err := httpapi.CheckQuery(raw, names)
		if want == "" {
			require.NoError(t, err, raw)
			continue
		}
		require.ErrorContains(t, err, want, raw)
	}
}
