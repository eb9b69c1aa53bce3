package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"rbeehive/hive"
)

// maxLimit is what a larger ?limit= is clamped to.
const maxLimit = 5000

// writeJSON answers with v as compact JSON and a final newline. Nothing is sent
// if v cannot be encoded, so that the caller can still answer with the error.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, status, buf.Bytes())
	return nil
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	writeBody(w, status, []byte(text))
}

// writeBody sends a whole answer. A failing write is the client's going away.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	extend(w)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// extend gives the next write its limit. The server's own write limit runs from
// the end of the request's header, so that after a wait, a stream's silence or a
// slow body there would be no time left to answer in. (Its read limit is lifted
// by net/http itself once the body has been read.)
func extend(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// queryWait reads ?wait=, a duration with a unit; 0 when absent.
func queryWait(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 {
		return 0, badField("wait", "a duration with a unit is expected, such as 30s")
	}
	return wait, nil
}

// queryLimit reads ?limit=, def when absent.
func queryLimit(r *http.Request, def int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return def, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 {
		return 0, badField("limit", "a number from 1 is expected; above 5000 counts as 5000")
	}
	return min(limit, maxLimit), nil
}

// queryBool reads a switch; its bare name means true.
func queryBool(r *http.Request, name string) (bool, error) {
	q := r.URL.Query()
	if !q.Has(name) {
		return false, nil
	}
	if q.Get(name) == "" {
		return true, nil
	}
	on, err := strconv.ParseBool(q.Get(name))
	if err != nil {
		return false, badField(name, "true or false is expected")
	}
	return on, nil
}

// parseSeq reads an event's number.
func parseSeq(field, text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, badField(field, "the number of an event is expected")
	}
	return seq, nil
}

// parsePort reads a port from a path or a cursor.
func parsePort(field, text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, badField(field, "a port from 1 to 65535 is expected")
	}
	return uint16(port), nil
}

// progress is the text of a hive that does not serve yet.
func progress(st hive.Status) string {
	if st.Total == 0 {
		return "recovering"
	}
	return fmt.Sprintf("recovering %d/%d", st.Done, st.Total)
}
