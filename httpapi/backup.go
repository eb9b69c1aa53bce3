package httpapi

import (
	"fmt"
	"net/http"
	"time"

	"rbeehive/store"
)

// getBackup sends the state file, consistent.
func (s *Server) getBackup(w http.ResponseWriter, r *http.Request) error {
	name := fmt.Sprintf("hive-%s.db", time.Now().UTC().Format(store.StampFormat))
	body := &attachment{w: w, name: name}
	if r.Method == http.MethodHead {
		body.head()
		return nil
	}
	_, err := s.hive.Load().Backup(r.Context(), body)
	return err
}

// attachment sends its header with the first byte: until then an error can be
// answered as one.
type attachment struct {
	w       http.ResponseWriter
	name    string
	started bool
}

func (a *attachment) head() {
	noteStream(a.w)
	h := a.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+a.name+`"`)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	a.w.WriteHeader(http.StatusOK)
	a.started = true
}

// Write implements io.Writer. A client that takes nothing for the time of one write
// is given up.
func (a *attachment) Write(p []byte) (int, error) {
	if !a.started {
		a.head()
	}
	extend(a.w)
	return a.w.Write(p)
}
