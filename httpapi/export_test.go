package httpapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"rbeehive/hive/doctor"
	"rbeehive/hive/workertype"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// What the external tests look at directly: the pure parts, and limits that are
// too long to wait for.

// Classify is the table of errors.go.
func Classify(err error) (status int, code string) {
	k := classify(err)
	return k.status, k.code
}

// Fail answers with err.
func (s *Server) Fail(w http.ResponseWriter, r *http.Request, err error) { s.fail(w, r, err) }

// Wrap puts the whole middleware but the recovery gate around h.
func (s *Server) Wrap(h http.Handler) http.Handler { return s.observe(s.guard(s.boundBody(h))) }

// SetHandler replaces the whole API of a server that does not serve yet.
func (s *Server) SetHandler(h http.Handler) { s.http.Handler = h }

// ParametersOf, Queries and CheckQuery are what is known of queries (query.go).
func ParametersOf(method, path string) []string   { return parametersOf(method, path) }
func Queries() []string                           { return slices.Sorted(maps.Keys(queries())) }
func CheckQuery(raw string, names []string) error { return checkQuery(raw, names) }

// IsOurName is what is accepted as hive_id besides that of the hive.
func (s *Server) IsOurName(name string, r *http.Request) bool { return s.isOurName(name, r) }

// Router is the router without middleware.
func (s *Server) Router() http.Handler { return s.router() }

// Operations are all methods and paths that are served, "GET /v1/jobs", sorted.
func (s *Server) Operations() (all []string) {
	for path, methods := range s.routes() {
		for method := range methods {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// SetTimeouts shortens the limits of a server that does not serve yet.
func (s *Server) SetTimeouts(limit time.Duration) {
	s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.WriteTimeout = limit, limit, limit
}

// CountActive makes a server that does not serve yet count the connections on
// which a request is being handled.
func (s *Server) CountActive() func() int {
	var mu sync.Mutex
	active := map[net.Conn]bool{}
	s.http.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		delete(active, c)
		if state == http.StateActive {
			active[c] = true
		}
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(active)
	}
}

// HostAllowed decides about a Host header.
func HostAllowed(host string, local net.Addr, names ...string) bool {
	return hostAllowed(host, local, allowedHosts(names))
}

// EscapeLine and EscapeJSON are the escapes of the rbee stream.
func EscapeLine(line string) string { return escapeLine(line) }

// EscapeJSON escapes one line of JSON.
func EscapeJSON(raw string) string { return escapeJSON(raw) }

// Rbee writes events as the rbee stream does.
func Rbee(operation string, events ...store.Event) string {
	var buf bytes.Buffer
	t := &rbeeText{w: &buf, operation: operation}
	for _, ev := range events {
		if t.event(ev) {
			break
		}
	}
	return buf.String()
}

// SSE writes events as the event stream does.
func SSE(events ...store.Event) (string, error) {
	out := &sender{stream: &stream{}, number: jobNumber}
	for _, ev := range events {
		if err := out.event(ev); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// The mapping of shapes.go.
func WorkerShape(w store.Worker) wire.Worker { return workerShape(w) }

// JobShape maps a job.
func JobShape(j store.Job) wire.Job { return jobShape(j) }

// LeaseShape maps a lease.
func LeaseShape(l store.Lease) wire.Lease { return leaseShape(l, nil) }

// EventShape maps an event.
func EventShape(e store.Event) wire.Event { return eventShape(e) }

// DoctorShape maps what the doctor found.
func DoctorShape(all []doctor.Checkup) wire.Doctor { return doctorShape(all) }

// TypeDetailShape maps a worker type.
func TypeDetailShape(t workertype.View) wire.TypeDetail { return typeDetailShape(t) }

// MustJSON is v as the API writes it, without the newline.
func MustJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// WorkerCursorRoundTrip writes and reads the cursor of a page of workers.
func WorkerCursorRoundTrip(w store.Worker) (store.Worker, error) {
	return parseWorkerCursor(workerCursor(w))
}

// ParseWorkerCursor reads the cursor of a page of workers.
func ParseWorkerCursor(text string) error {
	_, err := parseWorkerCursor(text)
	return err
}

// SendEvents runs the loop of an event stream.
func SendEvents(w http.ResponseWriter, events chan store.Event) error {
	return (&sender{stream: &stream{w: w}, number: jobNumber}).send(&follower{events: events})
}

// Codes are all codes that an answer can have, with their status.
func Codes() map[string][]int {
	all := map[string][]int{internal.code: {internal.status}}
	for _, k := range append(kinds(), classify(&http.MaxBytesError{})) {
		if !slices.Contains(all[k.code], k.status) {
			all[k.code] = append(all[k.code], k.status)
		}
	}
	return all
}

// Routes are all routes: the methods that have a handler, by path.
func (s *Server) Routes() map[string][]string {
	all := map[string][]string{}
	for path, methods := range s.routes() {
		all[path] = slices.Sorted(maps.Keys(methods))
	}
	return all
}
