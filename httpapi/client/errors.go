package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
)

// Sentinel errors; test for them with errors.Is.
var (
	// ErrUnreachable: nothing answered, or the connection broke before the answer was complete.
	ErrUnreachable = errors.New("hive is not reachable")
	// ErrNotFound: the API answered not_found.
	ErrNotFound = errors.New("not found")
	// ErrRecovering: the API answered recovering, for longer than the client may wait.
	ErrRecovering = errors.New("hive is recovering")
	// ErrShuttingDown: the daemon is about to end.
	ErrShuttingDown = errors.New("hive is shutting down")
	// ErrConflict: the API answered conflict.
	ErrConflict = errors.New("conflict")
	// ErrEventsGone: the events asked for have been pruned.
	ErrEventsGone = errors.New("events were removed")
	// ErrNotAHive: something answered, but not as a hive does.
	ErrNotAHive = errors.New("not a hive")
	// ErrTooLarge: an answer is larger than this client takes.
	ErrTooLarge = errors.New("response is too large")
	// ErrAddress: an address that is neither http(s)://host:port nor unix:/path.
	ErrAddress = errors.New("bad address")
	// ErrUntrustedListener: what answers on this machine is another user's, and got
	// neither the token nor the request.
	ErrUntrustedListener = errors.New("the listener is not a trusted user's")
	// ErrProxy: a proxy of the environment would read the token.
	ErrProxy = errors.New("proxy")
)

// The codes of api.md that this client tells apart.
const (
	codeNotFound     = "not_found"
	codeRecovering   = "recovering"
	codeShuttingDown = "shutting_down"
	codeConflict     = "conflict"
	codeEventsGone   = "events_gone"
)

// maxProblem bounds the body of an error answer, in bytes.
const maxProblem = 1 << 20

// Error is a request the API refused (problem+json, RFC 9457).
type Error struct {
	Status    int    // HTTP status
	Code      string // one of the codes of api.md; empty when the answer was no problem+json
	Detail    string // a sentence for a person
	RequestID string // names the request in the daemon's log
	// RetryAfter is what the server asks to wait before the next try; 0: it did not say.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Detail != "" {
		return e.Detail
	}
	return fmt.Sprintf("HTTP status %d %s", e.Status, http.StatusText(e.Status))
}

// Is makes errors.Is work with this package's sentinels.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Code == codeNotFound
	case ErrRecovering:
		return e.Code == codeRecovering
	case ErrShuttingDown:
		return e.Code == codeShuttingDown
	case ErrConflict:
		return e.Code == codeConflict
	case ErrEventsGone:
		return e.Code == codeEventsGone
	case ErrNotAHive:
		return e.Code == ""
	}
	return false
}

// UnreachableError is a daemon that did not answer. errors.Is(err, ErrUnreachable).
type UnreachableError struct {
	Addr string // as given in Options
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no hive at %s: %v", e.Addr, e.Err)
}

// Unwrap returns the sentinel and the cause.
func (e *UnreachableError) Unwrap() []error { return []error{ErrUnreachable, e.Err} }

// UntrustedError is a listener on this machine that belongs to a stranger, or of which
// that cannot be told. errors.Is(err, ErrUntrustedListener).
type UntrustedError struct {
	Addr   string // of the listener
	Reason string // whose it is, and who may have it
}

func (e *UntrustedError) Error() string { return e.Addr + ": " + e.Reason }

// Unwrap returns the sentinel.
func (e *UntrustedError) Unwrap() error { return ErrUntrustedListener }

// Away reports whether err says that the daemon cannot serve at the moment and
// that the same request may do better later: it is not reachable, it recovers,
// or it shuts down (and may be started again).
func Away(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrRecovering) || errors.Is(err, ErrShuttingDown)
}

// problem turns an error answer into an *Error. It reads, and does not close, the body.
func problem(resp *http.Response) *Error {
	e := &Error{
		Status:     resp.StatusCode,
		RequestID:  resp.Header.Get("X-Request-Id"),
		RetryAfter: retryAfter(resp.Header.Get("Retry-After")),
	}
	// Without a code it is ErrNotAHive: a proxy's page, or another program's.
	if !isJSON(resp.Header.Get("Content-Type")) {
		return e
	}
	var p wire.Problem
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil || json.Unmarshal(body, &p) != nil {
		return e
	}
	e.Code, e.Detail = p.Code, p.Detail
	if e.Detail == "" {
		e.Detail = p.Title
	}
	if p.RequestID != "" {
		e.RequestID = p.RequestID
	}
	return e
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// retryAfter reads the header's form in seconds (RFC 9110 10.2.3); hive does
// not send the other form, a date.
func retryAfter(value string) time.Duration {
	seconds, err := strconv.Atoi(value)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
