package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// refusal is an answer of the gateway's own to a request that it does not pass on, or that failed.
type refusal struct {
	status     int
	code       string
	message    string
	retryAfter time.Duration // 0: not said
}

func (r *refusal) Error() string { return r.message }

func refuse(status int, code, format string, a ...any) *refusal {
	return &refusal{status: status, code: code, message: fmt.Sprintf(format, a...)}
}

// again says when to ask again.
func (r *refusal) again(after time.Duration) *refusal {
	r.retryAfter = after
	return r
}

// anthropic reports whether a path speaks Anthropic's dialect, whose clients raise on another object.
func anthropic(path string) bool {
	return path == "/v1/messages" || strings.HasPrefix(path, "/v1/messages/")
}

// kind is what both dialects call a class of errors.
func kind(status int) string {
	switch {
	case status == http.StatusNotFound:
		return "not_found_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case status == http.StatusServiceUnavailable:
		return "overloaded_error"
	case status < 500:
		return "invalid_request_error"
	}
	return "api_error"
}

// body is the refusal in the dialect of a path.
func (r *refusal) body(path string) []byte {
	var v any
	if anthropic(path) {
		v = map[string]any{"type": "error", "error": map[string]any{"type": kind(r.status), "message": r.message}}
	} else {
		v = map[string]any{"error": map[string]any{"message": r.message, "type": kind(r.status), "param": nil, "code": r.code}}
	}
	text, _ := json.Marshal(v) // of texts
	return text
}

// event is the refusal inside a stream of events, in the form on which the clients of a path raise.
func (r *refusal) event(path string) []byte {
	if anthropic(path) {
		return fmt.Appendf(nil, "event: error\ndata: %s\n\n", r.body(path))
	}
	return fmt.Appendf(nil, "data: %s\n\n", r.body(path))
}

func (r *refusal) write(w http.ResponseWriter, path string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.retryAfter.Seconds()))))
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(append(r.body(path), '\n')) //nolint:gosec // JSON, and said to be so
}
