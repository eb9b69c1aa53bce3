// Package contract checks real requests and responses against httpapi/openapi.yaml.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// Document is a contract, and what of it has been used. It is safe for concurrent use.
type Document struct {
	doc    *openapi3.T
	router routers.Router
	mu     sync.Mutex
	unseen map[string]bool // "GET /v1/jobs"
}

// Load reads a document. A member that a schema does not name counts as a mistake
// here, though clients have to pass over it: it is one that nobody wrote down.
func Load(raw []byte) (*Document, error) {
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		return nil, fmt.Errorf("load the contract: %w", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("the contract: %w", err)
	}
	for _, schema := range doc.Components.Schemas {
		if len(schema.Value.Properties) > 0 && schema.Value.AdditionalProperties.Has == nil {
			schema.Value.AdditionalProperties.Has = new(bool)
		}
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("routes of the contract: %w", err)
	}
	d := &Document{doc: doc, router: router, unseen: map[string]bool{}}
	for _, op := range d.Operations() {
		d.unseen[op] = true
	}
	return d, nil
}

// Operations are all methods and paths of the document, "GET /v1/jobs", sorted.
func (d *Document) Operations() (all []string) {
	for path, item := range d.doc.Paths.Map() {
		for method := range item.Operations() {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// Queries are the names of the parameters that each of the operations has in its query.
func (d *Document) Queries() map[string][]string {
	all := map[string][]string{}
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			var names []string
			for _, p := range slices.Concat(item.Parameters, op.Parameters) {
				if p.Value.In == openapi3.ParameterInQuery {
					names = append(names, p.Value.Name)
				}
			}
			all[method+" "+path] = names
		}
	}
	return all
}

// Unseen are the operations that no request has reached yet, sorted.
func (d *Document) Unseen() (left []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for op := range d.unseen {
		left = append(left, op)
	}
	slices.Sort(left)
	return left
}

// Transport passes requests to next and reports, to a function that may be called
// from any goroutine, each response that is not as the document says, and each
// request that it does not allow and that was accepted all the same.
func (d *Document) Transport(next http.RoundTripper, report func(error)) http.RoundTripper {
	return &transport{d, next, report}
}

type transport struct {
	doc    *Document
	next   http.RoundTripper
	report func(error)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	complain := func(err error) {
		if err != nil {
			t.report(fmt.Errorf("%s %s, status %d: %w", r.Method, r.URL.RequestURI(), resp.StatusCode, err))
		}
	}
	complain(t.doc.check(r, sent, resp, complain))
	return resp, nil
}

// CloseIdleConnections closes those of the transport below.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// check checks a response. What comes later, as in a stream, is checked when it is read.
func (d *Document) check(r *http.Request, sent []byte, resp *http.Response, later func(error)) error {
	if resp.Header.Get("X-Request-Id") == "" {
		return errors.New("no X-Request-Id")
	}
	if (resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests) && resp.Header.Get("Retry-After") == "" {
		return errors.New("no Retry-After")
	}
	asked := r.Clone(r.Context())
	asked.Header.Set("Content-Type", "application/json") // the document says that it is not read
	asked.Body = io.NopCloser(bytes.NewReader(sent))
	if r.Method == http.MethodHead {
		asked.Method = http.MethodGet
	}
	route, vars, err := d.router.FindRoute(asked)
	if err != nil {
		return d.checkNoRoute(r, resp, err)
	}
	d.mu.Lock()
	delete(d.unseen, asked.Method+" "+route.Path)
	d.mu.Unlock()
	input := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: vars, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
	}
	if resp.StatusCode < 300 { // what was refused was wrong on purpose
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			return fmt.Errorf("was accepted, and the contract forbids it: %w", err)
		}
	}
	return d.checkAnswer(route.Operation, r.Method == http.MethodHead, resp, later)
}

// checkNoRoute: a route that the document does not have must not exist.
func (d *Document) checkNoRoute(r *http.Request, resp *http.Response, err error) error {
	switch {
	case r.Method == http.MethodOptions && resp.StatusCode == http.StatusNoContent && resp.Header.Get("Allow") != "":
		return nil
	case resp.StatusCode == http.StatusServiceUnavailable:
	case errors.Is(err, routers.ErrMethodNotAllowed) && resp.StatusCode == http.StatusMethodNotAllowed && resp.Header.Get("Allow") != "":
	case errors.Is(err, routers.ErrPathNotFound) && (resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusUnauthorized):
	default:
		return fmt.Errorf("is not in the contract: %w", err)
	}
	return d.checkBody("application/problem+json", d.doc.Components.Schemas["Problem"].Value, r.Method == http.MethodHead, resp)
}

func (d *Document) checkAnswer(op *openapi3.Operation, head bool, resp *http.Response, later func(error)) error {
	ref := op.Responses.Status(resp.StatusCode)
	if ref == nil {
		return errors.New("the status is not in the contract")
	}
	content := ref.Value.Content
	if len(content) == 0 {
		return nil
	}
	sent, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("Content-Type: %w", err)
	}
	media := content.Get(sent)
	if media == nil {
		return fmt.Errorf("the contract has no Content-Type %q here", sent)
	}
	if named, ok := media.Extensions["x-event-schema"].(string); ok {
		schema := d.component(named)
		if schema == nil {
			return fmt.Errorf("the contract has no schema %s", named)
		}
		resp.Body = &eventReader{body: resp.Body, check: func(data []byte) { later(d.checkJSON(schema, data)) }}
		return nil
	}
	if !strings.HasSuffix(sent, "json") {
		return nil // text: only its type can be checked
	}
	return d.checkBody(sent, media.Schema.Value, head, resp)
}

// checkBody reads a JSON body, and puts it back.
func (d *Document) checkBody(contentType string, schema *openapi3.Schema, head bool, resp *http.Response) error {
	if got := resp.Header.Get("Content-Type"); got != contentType {
		return fmt.Errorf("Content-Type is %q, not %q", got, contentType)
	}
	if head {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil { // cut off: for the test to handle
		resp.Body = unread{io.MultiReader(bytes.NewReader(body), failing{err}), resp.Body}
		return nil
	}
	resp.Body = unread{bytes.NewReader(body), resp.Body}
	if err := d.checkJSON(schema, body); err != nil {
		return err
	}
	if schema == d.doc.Components.Schemas["Job"].Value {
		return d.checkResult(body)
	}
	return nil
}

func (d *Document) checkJSON(schema *openapi3.Schema, raw []byte) error {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	return schema.VisitJSON(value, openapi3.VisitAsResponse())
}

// checkResult checks the result of a job against the schema that its operation names.
func (d *Document) checkResult(body []byte) error {
	var job struct {
		Operation, State string
		Result           json.RawMessage
	}
	if err := json.Unmarshal(body, &job); err != nil || job.State != "succeeded" {
		return err
	}
	operation, ok := d.doc.Components.Schemas["KnownOperation"].Value.Discriminator.Mapping[job.Operation]
	if !ok {
		return fmt.Errorf("%s succeeds and is not in the contract", job.Operation)
	}
	named, _ := d.component(operation.Ref).Extensions["x-result"].(string)
	schema := d.component(named)
	if schema == nil {
		return fmt.Errorf("%s has no x-result in the contract", job.Operation)
	}
	if err := d.checkJSON(schema, job.Result); err != nil {
		return fmt.Errorf("result of %s: %w", job.Operation, err)
	}
	return nil
}

func (d *Document) component(ref string) *openapi3.Schema {
	schema := d.doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
	if schema == nil {
		return nil
	}
	return schema.Value
}

// unread is a body of which a part was read.
type unread struct {
	io.Reader
	io.Closer
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// eventReader checks the data lines of an event stream while it is read.
type eventReader struct {
	body  io.ReadCloser
	line  []byte // not complete yet
	check func(data []byte)
}

// Read implements io.Reader.
func (e *eventReader) Read(p []byte) (int, error) {
	n, err := e.body.Read(p)
	e.line = append(e.line, p[:n]...)
	for {
		line, after, whole := bytes.Cut(e.line, []byte("\n"))
		if !whole {
			return n, err
		}
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			e.check(data)
		}
		e.line = after
	}
}

// Close implements io.Closer.
func (e *eventReader) Close() error { return e.body.Close() }
