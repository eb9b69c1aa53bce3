package httpapi

import (
	"fmt"
	"net/http"

	"rbeehive/httpapi/wire"
)

// lastAudit shows what the last audit found, without a new one.
func (s *Server) lastAudit(w http.ResponseWriter) error {
	return writeJSON(w, http.StatusOK, auditShape(s.hive.Load().LastAudit()))
}

// runAudit audits now; with ?repair=1 it also acts on what was found only once.
func (s *Server) runAudit(w http.ResponseWriter, r *http.Request, p wire.RunAuditParams) error {
	audit := s.hive.Load().Audit
	if orZero(p.Repair) {
		audit = s.hive.Load().Repair
	}
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	report, err := audit(ctx)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return writeJSON(w, http.StatusOK, auditShape(report))
}
