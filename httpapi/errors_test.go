package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/httpapi"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// The codes are a contract (api.md, "HTTP conventions").
func TestErrorTable(t *testing.T) {
	tests := []struct {
		err    error
		status int
		code   string
	}{
		{errdefs.ErrBadRequest, 400, "bad_request"},
		{errdefs.ErrUnknownField, 400, "unknown_field"},
		{errdefs.ErrUnknownOperation, 400, "unknown_operation"},
		{errdefs.ErrUnknownWorkerType, 400, "unknown_worker_type"},
		{&http.MaxBytesError{Limit: 1}, 413, "too_large"},
		{errdefs.ErrQueueFull, 429, "queue_full"},
		{errdefs.ErrNotFound, 404, "not_found"},
		{store.ErrNotFound, 404, "not_found"},
		{errdefs.ErrConflict, 409, "conflict"},
		{errdefs.ErrInvalidConfiguration, 409, "invalid_configuration"},
		{alloc.ErrExhausted, 409, "ports_exhausted"},
		{&alloc.UnavailableError{Port: 8080}, 409, "port_unavailable"},
		{store.ErrDiskFull, 507, "disk_full"},
		{errdefs.ErrRecovering, 503, "recovering"},
		{errdefs.ErrClosed, 503, "shutting_down"},
		{store.ErrClosed, 503, "shutting_down"},
		{store.ErrFailed, 500, "internal"},
		{errors.New("anything"), 500, "internal"},
	}
	for _, tt := range tests {
		for _, err := range []error{tt.err, fmt.Errorf("submit: %w", tt.err), errors.Join(errors.New("x"), tt.err)} {
			status, code := httpapi.Classify(err)
			require.Equal(t, tt.status, status, "%v", err)
			require.Equal(t, tt.code, code, "%v", err)
		}
	}
}

func TestInputErrorNamesTheField(t *testing.T) {
	err := fmt.Errorf("layers: %w", &errdefs.InputError{Kind: errdefs.ErrUnknownField, Field: "mdl", Detail: "is not a field"})
	p := failWith(t, quietServer(), err)
	require.Equal(t, "mdl: is not a field", p.Detail)
	require.Equal(t, "unknown_field", p.Code)
	require.Equal(t, "Bad Request", p.Title)
	require.Equal(t, "about:blank", p.Type)
}

func TestInternalErrorIsInTheLogOnly(t *testing.T) {
	log, lines := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, Access: anyone()})
	p := failWith(t, s, errors.New("secret: /var/lib/hive/token"))
	require.Equal(t, http.StatusInternalServerError, p.Status)
	require.NotContains(t, p.Detail, "secret")
	require.Contains(t, p.Detail, p.RequestID)
	require.NotEmpty(t, p.RequestID)
	require.Contains(t, lines(), "secret: /var/lib/hive/token")
	require.Contains(t, lines(), p.RequestID)
}

func TestPanicIsAnInternalError(t *testing.T) {
	log, lines := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, Access: anyone()})
	rec := serve(s.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("at the disco") })), localRequest(http.MethodGet, "/"))
	require.Equal(t, http.StatusInternalServerError, rec.Code)
	require.NotContains(t, rec.Body.String(), "disco")
	require.Contains(t, lines(), "at the disco")
}

// A half answer that ends regularly would look whole.
func TestErrorAfterTheStartCutsTheConnection(t *testing.T) {
	s := quietServer()
	h := s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("half"))
		s.Fail(w, r, errors.New("disk gone"))
	}))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { serve(h, localRequest(http.MethodGet, "/")) })
}

func TestCancelledRequestIsNotInternal(t *testing.T) {
	log, lines := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, Access: anyone()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Fail(w, r, ctx.Err()) }))
	rec := serve(h, localRequest(http.MethodGet, "/").WithContext(ctx))
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.NotContains(t, lines(), "request failed")
}

// anyone is for requests that come over no connection.
func anyone() *access.Policy { return &access.Policy{Mode: access.Anyone} }

// quietServer lets everybody in.
func quietServer() *httpapi.Server {
	log, _ := captureLog()
	return httpapi.New(httpapi.Options{Log: log, Access: anyone(), Shutdown: func() {}})
}

// captureLog returns a logger and what it wrote.
func captureLog() (*logrus.Logger, func() string) {
	log := logrus.New()
	out := &lockedBuffer{}
	log.SetOutput(out)
	return log, out.String
}

func localRequest(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "localhost:7835"
	return r
}

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func failWith(t *testing.T, s *httpapi.Server, err error) wire.Problem {
	t.Helper()
	rec := serve(s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Fail(w, r, err) })), localRequest(http.MethodGet, "/"))
	return problemOf(t, rec.Result(), rec.Body.String())
}

// problemOf checks the form that every error has.
func problemOf(t *testing.T, resp *http.Response, body string) wire.Problem {
	t.Helper()
	require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
	require.True(t, strings.HasSuffix(body, "}\n"), "%q", body)
	var p wire.Problem
	require.NoError(t, json.Unmarshal([]byte(body), &p))
	require.Equal(t, resp.StatusCode, p.Status)
	require.Equal(t, resp.Header.Get("X-Request-Id"), p.RequestID)
	require.NotEmpty(t, p.Detail)
	return p
}
