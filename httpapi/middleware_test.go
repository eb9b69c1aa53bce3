package httpapi_test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
)

func TestHostAllowed(t *testing.T) {
	lan := &net.TCPAddr{IP: net.IPv4(192, 168, 1, 5), Port: 7835}
	tests := []struct {
		host  string
		local net.Addr
		want  bool
	}{
		{"localhost", nil, true},
		{"localhost:7835", nil, true},
		{"LOCALHOST.:7835", nil, true},
		{"127.0.0.1:7835", nil, true},
		{"127.9.9.9", nil, true},
		{"[::1]:7835", nil, true},
		{"[::1]", nil, true},
		{"[::ffff:127.0.0.1]:7835", nil, true},
		{"gpubox.lan", nil, true},
		{"GPUBOX.lan:80", nil, true},
		{"other.lan:7835", nil, true}, // listed with a port
		{"192.168.1.5:7835", lan, true},
		{"192.168.1.6:7835", lan, false},
		{"192.168.1.5:7835", nil, false},
		{"evil.example", nil, false},
		{"evil.example:7835", lan, false},
		{"localhost.evil.example", nil, false},
		{"127.0.0.1.evil.example", nil, false},
		{"evil.example", &net.UnixAddr{Name: "/run/hive.sock", Net: "unix"}, true},
		{"", nil, false},
		{"0.0.0.0:7835", lan, false},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, httpapi.HostAllowed(tt.host, tt.local, "gpubox.lan", "other.lan:7835"), "%q on %v", tt.host, tt.local)
	}
}

func TestForeignHostIsRefused(t *testing.T) {
	h := quietServer().Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }))
	r := localRequest(http.MethodGet, "/health")
	r.Host = "evil.example"
	rec := serve(h, r)
	require.Equal(t, "forbidden_host", problemOf(t, rec.Result(), rec.Body.String()).Code)
}

func TestCrossOriginWrites(t *testing.T) {
	tests := []struct {
		name, method, origin, site string
		want                       int
	}{
		{"curl", http.MethodPost, "", "", http.StatusNoContent},
		{"same origin", http.MethodPost, "http://localhost:7835", "same-origin", http.StatusNoContent},
		{"old browser, same origin", http.MethodPost, "http://localhost:7835", "", http.StatusNoContent},
		{"cross-site", http.MethodPost, "https://evil.example", "cross-site", http.StatusForbidden},
		{"another port of this machine", http.MethodPost, "http://localhost:3000", "same-site", http.StatusForbidden},
		{"old browser, cross origin", http.MethodPost, "https://evil.example", "", http.StatusForbidden},
		{"delete", http.MethodDelete, "https://evil.example", "cross-site", http.StatusForbidden},
		{"sandboxed page", http.MethodPost, "null", "", http.StatusForbidden},
		{"read", http.MethodGet, "https://evil.example", "cross-site", http.StatusForbidden},
		{"read of another port", http.MethodGet, "http://localhost:3000", "same-site", http.StatusForbidden},
		{"typed into the address bar", http.MethodGet, "", "none", http.StatusNoContent},
	}
	h := quietServer().Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := localRequest(tt.method, "/v1/jobs")
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			if tt.site != "" {
				r.Header.Set("Sec-Fetch-Site", tt.site)
			}
			rec := serve(h, r)
			require.Equal(t, tt.want, rec.Code)
			if tt.want == http.StatusForbidden {
				require.Equal(t, "cross_origin", problemOf(t, rec.Result(), rec.Body.String()).Code)
			}
		})
	}
}

func TestRequestID(t *testing.T) {
	h := quietServer().Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	id := func(sent string) string {
		r := localRequest(http.MethodGet, "/")
		if sent != "" {
			r.Header.Set("X-Request-Id", sent)
		}
		return serve(h, r).Header().Get("X-Request-Id")
	}
	require.Equal(t, "abc-1.2_X", id("abc-1.2_X"))
	for _, sent := range []string{"", "a b", "a\nlevel=error", "<script>", strings.Repeat("x", 65), "ü"} {
		got := id(sent)
		require.Regexp(t, `^[A-Z2-7]{26}$`, got, "%q", sent)
		require.NotEqual(t, got, id(sent), "ids of ours differ")
	}
}

// Before the hive is there, and while it recovers, nothing but the progress is
// answered, on every route there is and every one there is not.
func TestRecoveringAnswersEverywhere(t *testing.T) {
	h := quietServer().Handler()
	for _, target := range []string{"/", "/v1/hive", "/v1/workers", "/v1/jobs/job-1/stream", "/nothing"} {
		rec := serve(h, localRequest(http.MethodGet, target))
		require.Equal(t, http.StatusServiceUnavailable, rec.Code, target)
		require.NotEmpty(t, rec.Header().Get("Retry-After"))
		p := problemOf(t, rec.Result(), rec.Body.String())
		require.Equal(t, "recovering", p.Code)
		require.Equal(t, "recovering", p.Detail)
	}
	rec := serve(h, localRequest(http.MethodPost, "/v1/jobs"))
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)

	rec = serve(h, localRequest(http.MethodGet, "/health"))
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.NotEmpty(t, rec.Header().Get("Retry-After"))
	require.Equal(t, "recovering", rec.Body.String())
	require.Equal(t, "text/plain; charset=utf-8", rec.Header().Get("Content-Type"))
}

func TestRouting(t *testing.T) {
	s := quietServer()
	h := s.Wrap(s.Router())
	tests := []struct {
		method, target string
		status         int
		allow          string
	}{
		{http.MethodGet, "/nothing", 404, ""},
		{http.MethodGet, "/v1", 404, ""},
		{http.MethodGet, "/v1/jobs/", 404, ""},
		{http.MethodGet, "/v1/types/", 404, ""},
		{http.MethodGet, "//v1/hive", 404, ""},
		{http.MethodGet, "/v1/../health", 404, ""},
		{http.MethodGet, "/v1/%2e%2e/health", 404, ""},
		{http.MethodGet, "/health/../../etc/passwd", 404, ""},
		{http.MethodPut, "/v1/jobs", 405, "GET, HEAD, OPTIONS, POST"},
		{http.MethodDelete, "/v1/jobs", 405, "GET, HEAD, OPTIONS, POST"},
		{http.MethodPost, "/v1/jobs/job-1", 405, "DELETE, GET, HEAD, OPTIONS"},
		{http.MethodGet, "/v1/shutdown", 405, "OPTIONS, POST"},
		{http.MethodHead, "/v1/shutdown", 405, "OPTIONS, POST"},
		{http.MethodPost, "/health", 405, "GET, HEAD, OPTIONS"},
		{http.MethodPut, "/v1/workers/cpu", 405, "DELETE, GET, HEAD, OPTIONS"},
		{http.MethodPut, "/v1/leases", 405, "GET, HEAD, OPTIONS, POST"},
		{http.MethodPost, "/v1/leases/8080", 405, "DELETE, GET, HEAD, OPTIONS, PUT"},
		{"BREW", "/", 405, "GET, HEAD, OPTIONS"},
	}
	for _, tt := range tests {
		r := localRequest(http.MethodGet, "/")
		r.Method = tt.method
		u, err := r.URL.Parse("http://localhost")
		require.NoError(t, err)
		r.URL = u
		r.URL.Path, r.URL.RawPath = decoded(tt.target), tt.target
		rec := serve(h, r)
		require.Equal(t, tt.status, rec.Code, "%s %s", tt.method, tt.target)
		require.Equal(t, tt.allow, rec.Header().Get("Allow"), "%s %s", tt.method, tt.target)
		problemOf(t, rec.Result(), rec.Body.String())
	}
}

func decoded(target string) string { return strings.ReplaceAll(target, "%2e", ".") }

func TestOptions(t *testing.T) {
	s := quietServer()
	rec := serve(s.Wrap(s.Router()), localRequest(http.MethodOptions, "/v1/jobs"))
	require.Equal(t, http.StatusNoContent, rec.Code)
	require.Equal(t, "GET, HEAD, OPTIONS, POST", rec.Header().Get("Allow"))
	require.Empty(t, rec.Header().Get("Access-Control-Allow-Origin"))
}

func TestShutdownRoute(t *testing.T) {
	log, _ := captureLog()
	asked := 0
	s := httpapi.New(httpapi.Options{Access: anyone(), Log: log, Shutdown: func() { asked++ }})
	rec := serve(s.Wrap(s.Router()), localRequest(http.MethodPost, "/v1/shutdown"))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Equal(t, 1, asked)
	require.JSONEq(t, `{"status":"shutting_down"}`, rec.Body.String())

	none := httpapi.New(httpapi.Options{Access: anyone(), Log: log})
	require.Equal(t, http.StatusNotFound, serve(none.Wrap(none.Router()), localRequest(http.MethodPost, "/v1/shutdown")).Code)
}
