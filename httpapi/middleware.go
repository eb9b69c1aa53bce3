package httpapi

import (
	"net/http"

	"rbeehive/hive"
	"rbeehive/hive/errdefs"
)

// middleware wraps the router from outside: mux runs its own middleware neither
// for 404 nor for 405.
func (s *Server) middleware(next http.Handler) http.Handler {
	return s.observe(s.guard(s.boundBody(s.gate(next))))
}

// gate answers for a hive that does not serve yet.
func (s *Server) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var st hive.Status
		if h := s.hive.Load(); h != nil {
			st = h.Status()
		}
		if st.Serving {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == "/health" {
			w.Header().Set("Retry-After", "1")
			writeText(w, http.StatusServiceUnavailable, progress(st))
			return
		}
		s.fail(w, r, recoveringError(progress(st)))
	})
}

// recoveringError is errdefs.ErrRecovering with the progress as its text.
type recoveringError string

func (e recoveringError) Error() string { return string(e) }
func (e recoveringError) Unwrap() error { return errdefs.ErrRecovering }
