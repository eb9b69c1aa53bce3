package httpapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gorilla/mux"

	"rbeehive/hive/access"
)

// handler answers a request, or returns the error to answer with.
type handler func(w http.ResponseWriter, r *http.Request) error

// router serves what the contract has (api.go). The generated code registers its
// routes by method, where mux knows neither HEAD nor OPTIONS and a wrong method
// is one more route to write; so its routes are collected, and served by path.
//
// Paths are matched as they were sent: mux's cleaning would answer a path with
// ".." by a redirect, and a decoded %2F would cut an id in two.
func (s *Server) router() http.Handler {
	m := mux.NewRouter().SkipClean(true).UseEncodedPath()
	m.Use(noteRoute, decodePathVars)
	routes := s.routes()
	for _, path := range slices.Sorted(maps.Keys(routes)) { // "{" sorts last: a fixed path goes before a pattern
		m.Handle(path, s.dispatch(routes[path]))
	}
	m.NotFoundHandler = s.adapt(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == http.MethodOptions && r.RequestURI == "*" { // about the server, not a route (RFC 9110, 9.3.7)
			w.Header().Set("Allow", "DELETE, GET, HEAD, OPTIONS, POST, PUT")
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return fmt.Errorf("%w: %s", errNoRoute, r.URL.Path)
	})
	return m
}

// routes is the whole API: for each path a handler for each method.
func (s *Server) routes() map[string]map[string]http.Handler {
	all := map[string]map[string]http.Handler{}
	contract := mux.NewRouter()
	HandlerWithOptions(api{s, s.exposition, sync.OnceValue(newDocs)}, GorillaServerOptions{BaseRouter: contract, ErrorHandlerFunc: s.badParameter})
	_ = contract.Walk(func(rt *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, _ := rt.GetPathTemplate() // every route has a path and methods: they are
		methods, _ := rt.GetMethods()   // registered with both
		for _, method := range methods {
			if all[path] == nil {
				all[path] = map[string]http.Handler{}
			}
			all[path][method] = s.needs(levelOf(method, path), s.asksOnly(parametersOf(method, path), rt.GetHandler()))
		}
		return nil
	})
	if s.opts.Reload == nil {
		delete(all, "/v1/reload")
	}
	if s.opts.Shutdown == nil {
		delete(all, "/v1/shutdown")
	}
	return all
}

// levels is what a caller must be allowed to do for a route. What is not here is for
// admins, so that a route that somebody forgot is closed.
func levels() map[string]access.Level {
	return map[string]access.Level{
		"GET /": access.None, "GET /health": access.None, "GET /version": access.None, "GET /docs": access.None, "GET /docs/{file}": access.None,
		"GET /openapi.yaml": access.None, "GET /openapi.json": access.None,

		"GET /v1/jobs": access.Read, "GET /v1/jobs/{id}": access.Read, "GET /v1/jobs/{id}/events": access.Read, "GET /v1/jobs/{id}/stream": access.Read,
		"GET /v1/events": access.Read, "GET /v1/heartbeats/stream": access.Read, "GET /metrics": access.Read,
		"GET /v1/routes": access.Read, "POST /v1/routes/replicas/{worker_id}": access.Read, // it only looks
		"GET /v1/workers": access.Read, "GET /v1/workers/{ref}": access.Read, "GET /v1/workers/{ref}/events": access.Read, "GET /v1/workers/{ref}/logs": access.Read,
		"GET /v1/leases": access.Read, "GET /v1/leases/{port}": access.Read, "GET /v1/ports": access.Read, "GET /v1/audit": access.Read,
		"GET /v1/types": access.Read, "GET /v1/types/{name}": access.Read, // the version, which runs programs, is for admins
		"GET /v1/hive": access.Read, "GET /v1/capabilities": access.Read, "GET /capabilities": access.Read,

		"POST /v1/jobs":            access.Read, // the operation decides (hive.Authorize): some only look
		"DELETE /v1/jobs/{id}":     access.Operate,
		"DELETE /v1/workers/{ref}": access.Operate,
		"POST /v1/leases":          access.Operate, "PUT /v1/leases/{port}": access.Operate, "DELETE /v1/leases/{port}": access.Operate,

		"POST /v1/audit": access.Admin, "GET /v1/doctor": access.Admin, "GET /v1/backup": access.Admin,
		"POST /v1/reload": access.Admin, "POST /v1/shutdown": access.Admin,
		"GET /v1/tokens": access.Admin, "POST /v1/tokens": access.Admin,
		"POST /v1/tokens/{name}": access.Admin, "DELETE /v1/tokens/{name}": access.Admin,
	}
}

func levelOf(method, path string) access.Level {
	if level, known := levels()[method+" "+path]; known {
		return level
	}
	return access.Admin
}

// badParameter answers a request with a parameter that could not be read.
func (s *Server) badParameter(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*RequiredParamError](err); ok {
		err = missing(e.ParamName)
	} else if e, ok := errors.AsType[*TooManyValuesForParamError](err); ok {
		err = badField(e.ParamName, "is there twice")
	} else if e, ok := errors.AsType[*InvalidParamFormatError](err); ok {
		err = badField(e.ParamName, e.Err.Error())
		if len(r.URL.Query()[e.ParamName]) > 1 {
			err = badField(e.ParamName, "is there twice")
		}
	}
	s.fail(w, r, err)
}

// decodePathVars decodes the elements of the path: the router matched the encoded
// path, so decoding is ours. net/http has refused broken escapes before.
func decodePathVars(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		vars := mux.Vars(r)
		for name, raw := range vars {
			if text, err := url.PathUnescape(raw); err == nil {
				vars[name] = text
			}
		}
		next.ServeHTTP(w, r)
	})
}

// dispatch chooses by method. HEAD is GET without the body, which net/http drops.
func (s *Server) dispatch(methods map[string]http.Handler) http.Handler {
	allow := allowOf(methods)
	return s.adapt(func(w http.ResponseWriter, r *http.Request) error {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if h, ok := methods[method]; ok {
			h.ServeHTTP(w, r)
			return nil
		}
		w.Header().Set("Allow", allow)
		if method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return fmt.Errorf("%w: %s; allowed: %s", errMethod, r.Method, allow)
	})
}

func allowOf(methods map[string]http.Handler) string {
	names := []string{http.MethodOptions}
	for name := range methods {
		names = append(names, name)
		if name == http.MethodGet {
			names = append(names, http.MethodHead)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// adapt answers with the error a handler returned.
func (s *Server) adapt(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}
