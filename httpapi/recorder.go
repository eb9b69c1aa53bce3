package httpapi

import (
	"net"
	"net/http"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"rbeehive/hive/access"
	"rbeehive/store/plain"
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

// Who ended an answer before it was complete.
const (
	byClient = "client" // it has gone, as the readers of a stream do when they have had enough
	byHive   = "hive"
)

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

// truncate keeps a caller from filling the disk with one line, and from changing the
// terminal on which it is read.
func truncate(text string) string { return plain.Clip(text, 256) }

// remote is the address of the client. One of a unix socket has none.
func remote(r *http.Request) string {
	if _, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); unix {
		return "unix"
	}
	return r.RemoteAddr
}
