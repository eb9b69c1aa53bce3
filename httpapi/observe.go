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

type requestIDKey struct{}

// requestID is the id of r, for the log and for problems.
func requestID(r *http.Request) string {
	id, _ := r.Context().Value(requestIDKey{}).(string)
	return id
}

// requestIDPattern is what we take over from a caller. Anything else could forge
// log lines or headers, and is replaced by an id of ours.
var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// recorder remembers whether and with what status an answer has begun.
type recorder struct {
	http.ResponseWriter
	status int
}

func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return rec.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach Flush and the deadlines.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

func started(w http.ResponseWriter) bool {
	rec, ok := w.(*recorder)
	return ok && rec.status != 0
}

// observe gives the request its id, logs it, and turns a panic into a 500.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		id := r.Header.Get("X-Request-Id")
		if !requestIDPattern.MatchString(id) {
			id = rand.Text()
		}
		w.Header().Set("X-Request-Id", id)
		r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
		rec := &recorder{ResponseWriter: w}
		defer func() {
			cause := recover()
			defer s.logRequest(rec, r, begin)
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
		panic(cause)
	}
	s.fail(rec, r, fmt.Errorf("panic: %v\n%s", cause, debug.Stack()))
}

func (s *Server) logRequest(rec *recorder, r *http.Request, begin time.Time) {
	if !s.opts.Log.IsLevelEnabled(logrus.DebugLevel) {
		return
	}
	s.opts.Log.WithFields(logrus.Fields{
		"request_id": requestID(r), "method": r.Method, "path": r.URL.Path,
		"status": rec.status, "took_ms": time.Since(begin).Milliseconds(),
	}).Debug("request")
}
