package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gorilla/mux"
)

// handler answers a request, or returns the error to answer with.
type handler func(w http.ResponseWriter, r *http.Request) error

// route is one path with a handler for each method.
type route struct {
	path    string
	methods map[string]handler
}

// routes is the whole API. Paths are flat: below mux's subrouters a wrong method
// reads as 404.
func (s *Server) routes() []route {
	get := func(h handler) map[string]handler { return map[string]handler{http.MethodGet: h} }
	all := []route{
		{"/", get(s.root)},
		{"/health", get(s.health)},
		{"/v1/jobs", map[string]handler{http.MethodGet: s.listJobs, http.MethodPost: s.submitJob}},
		{"/v1/jobs/{id}", map[string]handler{http.MethodGet: s.getJob, http.MethodDelete: s.cancelJob}},
		{"/v1/jobs/{id}/stream", get(s.rbeeStream)},
		{"/v1/jobs/{id}/events", get(s.jobEvents)},
		{"/v1/workers", get(s.listWorkers)},
		{"/v1/workers/{ref}", get(s.getWorker)},
		{"/v1/workers/{ref}/events", get(s.workerEvents)},
		{"/v1/workers/{ref}/logs", get(s.workerLogs)},
		{"/v1/leases", map[string]handler{http.MethodGet: s.listLeases, http.MethodPost: s.acquireLease}},
		{"/v1/leases/{port}", map[string]handler{
			http.MethodGet: s.getLease, http.MethodPut: s.renewLease, http.MethodDelete: s.releaseLease,
		}},
		{"/v1/ports", get(s.getPorts)},
		{"/v1/audit", map[string]handler{http.MethodGet: s.lastAudit, http.MethodPost: s.runAudit}},
		{"/metrics", get(s.metrics())},
		{"/v1/types", get(s.listTypes)},
		{"/v1/types/{name}", get(s.getType)},
		{"/v1/hive", get(s.getHive)},
		{"/v1/doctor", get(s.getDoctor)},
	}
	if s.opts.Reload != nil {
		all = append(all, route{"/v1/reload", map[string]handler{http.MethodPost: s.reload}})
	}
	if s.opts.Shutdown != nil {
		all = append(all, route{"/v1/shutdown", map[string]handler{http.MethodPost: s.shutdown}})
	}
	return all
}

// router matches paths as they were sent: mux's cleaning would answer a path
// with ".." by a redirect, and a decoded %2F would cut an id in two.
func (s *Server) router() http.Handler {
	m := mux.NewRouter().SkipClean(true).UseEncodedPath()
	for _, rt := range s.routes() {
		m.Handle(rt.path, s.dispatch(rt.methods))
	}
	m.NotFoundHandler = s.adapt(func(_ http.ResponseWriter, r *http.Request) error {
		return fmt.Errorf("%w: %s", errNoRoute, r.URL.Path)
	})
	return m
}

// dispatch chooses by method. HEAD is GET without the body, which net/http drops.
func (s *Server) dispatch(methods map[string]handler) http.Handler {
	allow := allowOf(methods)
	return s.adapt(func(w http.ResponseWriter, r *http.Request) error {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if h, ok := methods[method]; ok {
			return h(w, r)
		}
		w.Header().Set("Allow", allow)
		if method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return fmt.Errorf("%w: %s; allowed: %s", errMethod, r.Method, allow)
	})
}

func allowOf(methods map[string]handler) string {
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

// pathVar is a decoded element of the path. The router matched the encoded path,
// so decoding is ours; net/http has refused broken escapes before.
func pathVar(r *http.Request, name string) string {
	raw := mux.Vars(r)[name]
	text, err := url.PathUnescape(raw)
	if err != nil {
		return raw
	}
	return text
}

// root lists the routes for somebody who opened the address to see what it is.
func (s *Server) root(w http.ResponseWriter, _ *http.Request) error {
	var b strings.Builder
	b.WriteString("hive: worker processes and their ports on this machine\n\n")
	for _, rt := range s.routes() {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			if _, ok := rt.methods[method]; ok {
				fmt.Fprintf(&b, "%-6s %s\n", method, rt.path)
			}
		}
	}
	writeText(w, http.StatusOK, b.String())
	return nil
}

// health answers once the hive serves; before that the gate does.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	writeText(w, http.StatusOK, "ok")
	return nil
}

// shutdown answers first and asks for the end after.
func (s *Server) shutdown(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Connection", "close")
	if err := writeJSON(w, http.StatusOK, map[string]string{"status": "shutting_down"}); err != nil {
		return err
	}
	_ = http.NewResponseController(w).Flush()
	s.opts.Shutdown()
	return nil
}
