package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"rbeehive/store/plain"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"rbeehive/hive/access"
)

// recorder is one request on its way: what the log and the metrics say of it when
// it has ended. The handlers write through it, and find it in the context.
type recorder struct {
	http.ResponseWriter
	id      string // of the request
	route   string // template of the path; empty until a route has taken the request
	status  int    // 0: the answer has not begun
	bytes   int64  // of the body
	waits   bool   // it was asked to wait, so how long it takes is the client's wish
	streams bool   // the answer has no end of its own
	cut     bool   // we ended the answer in the middle
	broken  bool   // the client no longer takes it
	open    prometheus.Gauge
	caller  access.Caller // who has sent it
}

type recorderKey struct{}

// recorderOf is nil for a request that did not come through observe.
func recorderOf(r *http.Request) *recorder {
	rec, _ := r.Context().Value(recorderKey{}).(*recorder)
	return rec
}

// requestID is the id of r, for the log and for problems.
func requestID(r *http.Request) string {
	if rec := recorderOf(r); rec != nil {
		return rec.id
	}
	return ""
}

// requestIDPattern is what we take over from a caller. Anything else could forge
// log lines or headers, and is replaced by an id of ours.
var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

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
	n, err := rec.ResponseWriter.Write(p)
	rec.bytes += int64(n)
	if err != nil {
		rec.broken = true
	}
	return n, err
}

// Unwrap lets http.ResponseController reach Flush and the deadlines.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

func started(w http.ResponseWriter) bool {
	rec, ok := w.(*recorder)
	return ok && rec.status != 0
}

// noteStream says that the answer has no end of its own.
func noteStream(w http.ResponseWriter) {
	if rec, ok := w.(*recorder); ok && !rec.streams {
		rec.streams = true
		rec.open.Inc()
	}
}

// noteWait says that the client decides how long its request takes.
func noteWait(r *http.Request) {
	if rec := recorderOf(r); rec != nil {
		rec.waits = true
	}
}

// noteRoute is mux middleware, which runs once a route has taken the request: the
// template of its path is a name that a caller cannot make up.
func noteRoute(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rec, route := recorderOf(r), mux.CurrentRoute(r); rec != nil && route != nil {
			if template, err := route.GetPathTemplate(); err == nil {
				rec.route = template
			}
		}
		next.ServeHTTP(w, r)
	})
}

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

// Who ended an answer before it was complete.
const (
	byClient = "client" // it has gone, as the readers of a stream do when they have had enough
	byHive   = "hive"
)

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
		"request_id": rec.id, "method": clipped(r.Method), "route": rec.route, "path": clipped(r.URL.Path),
		"status": rec.status, "took_ms": float64(took.Microseconds()) / 1000, "bytes": rec.bytes, "remote": remote(r),
	}
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

// clipped keeps a caller from filling the disk with one line, and from changing the
// terminal on which it is read.
func clipped(text string) string { return plain.Clip(text, 256) }

// remote is the address of the client. One of a unix socket has none.
func remote(r *http.Request) string {
	if _, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); unix {
		return "unix"
	}
	return r.RemoteAddr
}
