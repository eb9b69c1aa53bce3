package httpapi

import (
	"net/http"
	"net/url"

	"rbeehive/hive"
	"rbeehive/httpapi/wire"
)

// reload reads the configuration afresh; with ?dry_run=1 it only says what that
// would change.
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

func planShape(p hive.Plan) wire.Plan {
	shape := wire.Plan{
		DryRun: p.DryRun, Types: []wire.TypeChange{}, Workers: []wire.WorkerChange{},
		Autostart: orEmpty(p.Autostart), Applied: orEmpty(p.Applied), NeedStart: orEmpty(p.NeedStart),
	}
	for _, t := range p.Types {
		shape.Types = append(shape.Types, wire.TypeChange{Name: t.Name, Change: string(t.Change), Keys: orEmpty(t.Keys)})
	}
	for _, c := range p.Workers {
		shape.Workers = append(shape.Workers, wire.WorkerChange{
			WorkerID: c.WorkerID, Name: orNull(c.Name), Type: c.Type, Port: c.Port, Action: string(c.Action), Reason: c.Reason,
		})
	}
	return shape
}
