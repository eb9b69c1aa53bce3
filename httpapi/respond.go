package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// writeJSON answers with v as compact JSON and a final newline. Nothing is sent
// if v cannot be encoded, so that the caller can still answer with the error.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	text, err := encodeJSON(v)
	if err != nil {
		return err
	}
	writeJSONText(w, status, text)
	return nil
}

// encodeJSON is v as it is answered.
func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode the response: %w", err)
	}
	return buf.Bytes(), nil
}

func writeJSONText(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, status, text)
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

// writeTimeout is for one answer, or for one write of a stream; streams as a whole have
// no limit.
const writeTimeout = 30 * time.Second

// extend gives the next write its limit. The server's own write limit runs from
// the end of the request's header, so that after a wait, a stream's silence or a
// slow body there would be no time left to answer in. (Its read limit is lifted
// by net/http itself once the body has been read.)
func extend(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}
