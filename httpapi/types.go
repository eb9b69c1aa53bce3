package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/httpapi/wire"
)

// listTypes lists the worker types by name. With ?version=1 it runs programs.
func (s *Server) listTypes(w http.ResponseWriter, r *http.Request, p wire.ListTypesParams) error {
	if err := s.mayRun(r, bool(orZero(p.Version))); err != nil {
		return err
	}
	page := wire.Types{Types: []wire.TypeSummary{}}
	for _, t := range s.hive.Load().Types(r.Context(), bool(orZero(p.Version))) {
		page.Types = append(page.Types, typeSummaryShape(t))
	}
	return writeJSON(w, http.StatusOK, page)
}

// getType says what a spawn with the fields of the query would do.
func (s *Server) getType(w http.ResponseWriter, r *http.Request, name string, p wire.GetTypeParams) error {
	params, err := queryParams(r)
	if err != nil {
		return err
	}
	if err := s.mayRun(r, bool(orZero(p.Version))); err != nil {
		return err
	}
	t, err := s.hive.Load().TypeInfo(r.Context(), operation.Spawn{
		Worker: name, Model: orZero(p.Model), Device: orZero(p.Device), Name: orZero(p.WorkerName), Port: uint16(orZero(p.Port)), Params: params,
	}, bool(orZero(p.Version)))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, typeDetailShape(t))
}

// mayRun refuses to ask programs for their version for who may only look: it starts
// them.
func (s *Server) mayRun(r *http.Request, version bool) error {
	if who := callerOf(r); version && !who.Rights.May(access.Admin) {
		return &errdefs.InputError{Kind: errdefs.ErrForbidden, Field: "version", Detail: fmt.Sprintf("%s may not run programs to learn their version; only admins may", who)}
	}
	return nil
}

// queryParams reads the parameters of a spawn from a query, param.KEY. An unknown
// name is refused: an answer to another question than was meant would be believed.
func queryParams(r *http.Request) (map[string]string, error) {
	params := map[string]string{}
	for name, values := range r.URL.Query() {
		key, isParam := strings.CutPrefix(name, "param.")
		switch {
		case isParam && key != "" && len(values) == 1:
			params[key] = values[0]
		case isParam && key != "":
			return nil, badField(name, "is there twice")
		case !slices.Contains([]string{"model", "device", "name", "port", "version"}, name):
			return nil, badField(name, "is not known here; expected model, device, name, port, param.KEY or version")
		}
	}
	return params, nil
}
