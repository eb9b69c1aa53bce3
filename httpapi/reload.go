package httpapi

import (
	"net/http"

	"rbeehive/httpapi/wire"
)

// reload reads the configuration again; with ?dry_run=1 it only says what that would
// change.
func (s *Server) reload(w http.ResponseWriter, r *http.Request, p wire.ReloadParams) error {
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	plan, err := s.opts.Reload(ctx, bool(orZero(p.DryRun)))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, planShape(plan))
}

// shutdown answers first and asks for the end after.
func (s *Server) shutdown(w http.ResponseWriter) error {
	w.Header().Set("Connection", "close")
	if err := writeJSON(w, http.StatusOK, wire.ShuttingDown{Status: "shutting_down"}); err != nil {
		return err
	}
	_ = http.NewResponseController(w).Flush()
	s.opts.Shutdown()
	return nil
}
