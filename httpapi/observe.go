package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
)

// requestIDPattern is what we take over from a caller. Anything else could forge
// log lines or headers, and is replaced by an id of ours.
var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// observe gives the request its id, logs and counts it, and turns a panic into a 500.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		id := r.Header.Get("X-Request-Id")
		if !requestIDPattern.MatchString(id) {
			id = rand.Text()
		}
		w.Header().Set("X-Request-Id", id)
		rec := &recorder{ResponseWriter: w, id: id, open: s.traffic.streams}
		r = r.WithContext(context.WithValue(r.Context(), recorderKey{}, rec))
		defer func() {
			cause := recover()
			defer s.ended(rec, r, begin)
			s.recovered(rec, r, cause)
		}()
		next.ServeHTTP(rec, r)
	})
}

// recovered answers for a handler that panicked, so that one bad request does
// not look like a crash of the hive to the client.
func (s *Server) recovered(rec *recorder, r *http.Request, cause any) {
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		rec.cut = true
		panic(cause)
	}
	rec.cut = started(rec) // fail cuts the connection then
	s.fail(rec, r, fmt.Errorf("panic: %v\n%s", cause, debug.Stack()))
}

// ended counts and logs a request that is over.
func (s *Server) ended(rec *recorder, r *http.Request, begin time.Time) {
	took := time.Since(begin)
	if rec.route == "" {
		rec.route = otherLabel
	}
	by := s.abortedBy(rec, r)
	if rec.status == 0 && by == "" {
		rec.status = http.StatusOK // net/http sends it for a handler that wrote nothing
	}
	if r.Method == http.MethodHead {
		rec.bytes = 0 // written by the handler, and not sent
	}
	s.traffic.count(rec, r.Method, by, took)
	s.logRequest(rec, r, by, took)
}

// abortedBy is empty if the answer is complete.
func (s *Server) abortedBy(rec *recorder, r *http.Request) string {
	gone := rec.broken || r.Context().Err() != nil
	switch {
	case gone && s.base.Err() == nil: // base: hive itself closes the connections
		return byClient
	case gone || rec.cut:
		return byHive
	}
	return ""
}

// logRequest writes the line of the access log. Nothing that could be a secret is
// in it: no query, no header but our own, no body.
func (s *Server) logRequest(rec *recorder, r *http.Request, by string, took time.Duration) {
	level := logrus.InfoLevel
	if polled(rec.route) && rec.status < http.StatusBadRequest && by == "" {
		level = logrus.DebugLevel
	}
	if !s.opts.Log.IsLevelEnabled(level) {
		return
	}
	fields := logrus.Fields{
		"request_id": rec.id, "method": truncate(r.Method), "route": rec.route, "path": truncate(r.URL.Path),
		"status": rec.status, "took_ms": float64(took.Microseconds()) / 1000, "bytes": rec.bytes, "remote": remote(r),
	}
	// A token or a user, as guard found them: who sent a token is not looked up otherwise.
	switch who := rec.caller; {
	case who.Token != "":
		fields["token"] = who.Token
	case who.Known:
		fields["uid"] = who.UID
		if who.PID != 0 {
			fields["pid"] = who.PID
		}
	}
	if by != "" {
		fields["aborted"] = by
	}
	s.opts.Log.WithFields(fields).Log(level, "request")
}

// polled are the routes that machines ask every few seconds, for ever.
func polled(route string) bool { return route == "/health" || route == "/metrics" }
