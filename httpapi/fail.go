package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"rbeehive/httpapi/wire"
)

// fail answers a request with err as a problem (RFC 9457), and logs it if it is
// a fault of ours.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	// A request whose context ended either has nobody to read the answer, or is
	// cut short by a shutdown; neither is an internal error.
	if errors.Is(err, context.Canceled) && (r.Context().Err() != nil || s.closing.Err() != nil) {
		err = errShuttingDown
	}
	id := requestID(r)
	k := classify(err)
	if k.code == internal.code || k.code == "disk_full" {
		s.opts.Log.WithFields(map[string]any{
			"request_id": id, "method": truncate(r.Method), "path": truncate(r.URL.Path), "error": err.Error(),
		}).Error("request failed")
	}
	if started(w) {
		// Part of the answer is out. A problem would be read as data, and a
		// regular end as the whole: cut the connection.
		panic(http.ErrAbortHandler)
	}
	if k.status == http.StatusServiceUnavailable || k.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	writeProblem(w, wire.Problem{
		Type:      "about:blank",
		Title:     http.StatusText(k.status),
		Status:    k.status,
		Detail:    detail(err, k, id),
		Code:      k.code,
		RequestID: id,
	})
}

// refuse answers without reading the body, and ends the connection: net/http would
// read what is left, for the sake of the next request, and keep the connection
// among those that have one for as long as that takes.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	}
	s.fail(w, r, err)
}
