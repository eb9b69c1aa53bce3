package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"rbeehive/alloc"
	"rbeehive/hive/errdefs"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// Sentinels of this package; they never leave it but as a problem.
var (
	errUnauthorized  = errors.New("unauthorized")
	errForbiddenHost = errors.New("forbidden host")
	errCrossOrigin   = errors.New("cross-origin request")
	errNoRoute       = errors.New("no such route")
	errMethod        = errors.New("method not allowed")
	errShuttingDown  = errors.New("the hive is shutting down")
)

// recoveringError is errdefs.ErrRecovering with the progress as its text.
type recoveringError string

func (e recoveringError) Error() string { return string(e) }
func (e recoveringError) Unwrap() error { return errdefs.ErrRecovering }

// kind is how an error looks from outside.
type kind struct {
	err    error
	status int
	code   string
}

// internal is what every error is that stands in no other row.
var internal = kind{status: http.StatusInternalServerError, code: "internal"}

// kinds is the table from error to status and code. The codes are a contract:
// scripts compare them. The first row that matches counts.
func kinds() []kind {
	return []kind{
		{errdefs.ErrUnknownField, http.StatusBadRequest, "unknown_field"},
		{errdefs.ErrUnknownOperation, http.StatusBadRequest, "unknown_operation"},
		{errdefs.ErrUnknownWorkerType, http.StatusBadRequest, "unknown_worker_type"},
		{errdefs.ErrBadRequest, http.StatusBadRequest, "bad_request"},
		{errdefs.ErrNotFound, http.StatusNotFound, "not_found"},
		{store.ErrNotFound, http.StatusNotFound, "not_found"},
		{errNoRoute, http.StatusNotFound, "not_found"},
		{errMethod, http.StatusMethodNotAllowed, "method_not_allowed"},
		{errdefs.ErrConflict, http.StatusConflict, "conflict"},
		{errdefs.ErrEventsGone, http.StatusGone, "events_gone"},
		{errdefs.ErrInvalidConfiguration, http.StatusConflict, "invalid_configuration"},
		{alloc.ErrExhausted, http.StatusConflict, "ports_exhausted"},
		{alloc.ErrUnavailable, http.StatusConflict, "port_unavailable"},
		{errUnauthorized, http.StatusUnauthorized, "unauthorized"},
		{errdefs.ErrForbidden, http.StatusForbidden, "forbidden"},
		{errForbiddenHost, http.StatusForbidden, "forbidden_host"},
		{errCrossOrigin, http.StatusForbidden, "cross_origin"},
		{errdefs.ErrQueueFull, http.StatusTooManyRequests, "queue_full"},
		{store.ErrDiskFull, http.StatusInsufficientStorage, "disk_full"},
		{errdefs.ErrRecovering, http.StatusServiceUnavailable, "recovering"},
		{errdefs.ErrClosed, http.StatusServiceUnavailable, "shutting_down"},
		{store.ErrClosed, http.StatusServiceUnavailable, "shutting_down"},
		{errShuttingDown, http.StatusServiceUnavailable, "shutting_down"},
	}
}

// classify finds err's row.
func classify(err error) kind {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return kind{err, http.StatusRequestEntityTooLarge, "too_large"}
	}
	for _, k := range kinds() {
		if errors.Is(err, k.err) {
			return k
		}
	}
	return internal
}

// detail is the sentence for the caller.
func detail(err error, k kind, requestID string) string {
	if k.code == internal.code {
		return "internal error; hive's log says more under request_id " + requestID
	}
	if k.code == "too_large" {
		return "body: larger than 1 MiB"
	}
	// Only the mistake itself: what our layers wrapped around it is of no use
	// to the one who made it.
	if in, ok := errors.AsType[*errdefs.InputError](err); ok {
		return shown(in.Error())
	}
	return shown(err.Error())
}

// maxDetail is more than any sentence of ours has, and less than a path can have.
const maxDetail = 1000

// shown makes one line of bounded length, plain text, of a text that may repeat what a
// caller sent: a path, or the name of a parameter.
func shown(text string) string { return plain.Clip(text, maxDetail) }

func writeProblem(w http.ResponseWriter, p wire.Problem) {
	body, err := json.Marshal(p)
	if err != nil { // strings and a number: cannot happen
		panic(err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeBody(w, p.Status, append(body, '\n'))
}
