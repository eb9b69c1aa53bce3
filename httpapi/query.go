package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"rbeehive/hive/input"
	"rbeehive/httpapi/wire"
	"rbeehive/store/plain"
)

// spawnParam stands before the name of a parameter of a worker type in a query.
const spawnParam = "param."

// queries is what the generated code reads from the query of a route. What is not here
// takes none.
func queries() map[string]any {
	return map[string]any{
		"GET /capabilities": wire.GetCapabilitiesOfOldParams{}, "GET /v1/capabilities": wire.GetCapabilitiesParams{},
		"GET /v1/heartbeats/stream": wire.FollowHeartbeatsParams{}, "GET /v1/events": wire.FollowHiveParams{},
		"GET /v1/jobs": wire.ListJobsParams{}, "POST /v1/jobs": wire.SubmitJobParams{},
		"GET /v1/jobs/{id}": wire.GetJobParams{}, "GET /v1/jobs/{id}/events": wire.FollowJobParams{},
		"GET /v1/workers": wire.ListWorkersParams{}, "GET /v1/workers/{ref}/events": wire.ListWorkerEventsParams{}, "GET /v1/workers/{ref}/logs": wire.GetWorkerLogParams{},
		"GET /v1/leases": wire.ListLeasesParams{}, "DELETE /v1/leases/{port}": wire.ReleaseLeaseParams{},
		"GET /v1/types": wire.ListTypesParams{}, "GET /v1/types/{name}": wire.GetTypeParams{},
		"POST /v1/audit": wire.RunAuditParams{}, "POST /v1/reload": wire.ReloadParams{},
	}
}

// parametersOf is the names that a route knows; spawnParam+"KEY" stands for all that begin
// so.
func parametersOf(method, path string) (names []string) {
	route := method + " " + path
	if route == "GET /v1/types/{name}" {
		names = append(names, spawnParam+"KEY")
	}
	params, ok := queries()[route]
	if !ok {
		return names
	}
	for _, field := range reflect.VisibleFields(reflect.TypeOf(params)) {
		if name, _, _ := strings.Cut(field.Tag.Get("form"), ","); name != "" { // a header has none
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// asksOnly lets only requests through whose query has nothing but parameters that the
// route knows, each of them once: what was passed over would be taken for done, and a dry
// run that is misspelled be a real one.
func (s *Server) asksOnly(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			if err := checkQuery(r.URL.RawQuery, names); err != nil {
				s.fail(w, r, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func checkQuery(raw string, names []string) error {
	// url.URL.Query leaves out what it cannot read.
	query, err := url.ParseQuery(raw)
	if err != nil {
		return badField("query", "is not well formed: "+err.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		key, isParam := strings.CutPrefix(name, spawnParam)
		known := slices.Contains(names, name) || isParam && key != "" && slices.Contains(names, spawnParam+"KEY")
		switch {
		case name == "":
			return badField("query", "has a parameter without a name")
		case !known && len(names) == 0:
			return badField(plain.Short(name), "is not known here: this route has no parameters")
		case !known:
			return badField(plain.Short(name), fmt.Sprintf("is not known here; expected %s%s", strings.Join(names, ", "), input.DidYouMean(name, names)))
		case len(query[name]) > 1:
			return badField(plain.Short(name), "is there twice")
		}
	}
	return nil
}

// spawnParams are the parameters of a spawn in a query that was checked.
func spawnParams(r *http.Request) map[string]string {
	params := map[string]string{}
	for name, values := range r.URL.Query() {
		if key, ok := strings.CutPrefix(name, spawnParam); ok {
			params[key] = values[0]
		}
	}
	return params
}
