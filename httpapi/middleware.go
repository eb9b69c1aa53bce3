package httpapi

import (
	"fmt"
	"net/http"

	"rbeehive/hive"
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

// progress is the text of a hive that does not serve yet.
func progress(st hive.Status) string {
	if st.Total == 0 {
		return "recovering"
	}
	return fmt.Sprintf("recovering %d/%d", st.Done, st.Total)
}

// boundBody refuses a body that says itself that it is too large. One that does
// not say is cut off where it is read.
func (s *Server) boundBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxBodyBytes {
			s.refuse(w, r, &http.MaxBytesError{Limit: maxBodyBytes})
			return
		}
		next.ServeHTTP(w, r)
	})
}
