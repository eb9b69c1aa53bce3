package httpapi

import (
	"net/http"
	"net/url"

	"rbeehive/httpapi/wire"
)

// reload reads the configuration again; with ?dry_run=1 it only says what that would
// change.
func (s *Server) reload(w http.ResponseWriter, r *http.Request, p wire.ReloadParams) error {
	// net/url leaves out what it cannot read: a dry run must not become a real one.
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		return badField("query", "is not well formed: "+err.Error())
	}
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
