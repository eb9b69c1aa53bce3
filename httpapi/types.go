package httpapi

import (
	"fmt"
	"net/http"

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
	if err := s.mayRun(r, bool(orZero(p.Version))); err != nil {
		return err
	}
	t, err := s.hive.Load().TypeInfo(r.Context(), operation.Spawn{
		Worker: name, Model: orZero(p.Model), Device: orZero(p.Device), Name: orZero(p.WorkerName), Port: uint16(orZero(p.Port)), Params: spawnParams(r),
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
