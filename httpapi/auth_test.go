package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
)

const secret = "s3cret-token"

func tokenServer() (s *httpapi.Server, logged func() string) {
	log, logged := captureLog()
	log.SetLevel(6) // trace
	return httpapi.New(httpapi.Options{Log: log, Token: secret, TokenFile: "/var/lib/hive/token"}), logged
}

func TestAuthorization(t *testing.T) {
	tests := []struct {
		name   string
		header []string
		want   int
	}{
		{"none", nil, 401},
		{"right", []string{"Bearer " + secret}, 204},
		{"scheme in another case", []string{"bearer " + secret}, 204},
		{"two blanks", []string{"Bearer  " + secret}, 204},
		{"wrong", []string{"Bearer other"}, 401},
		{"a prefix", []string{"Bearer " + secret[:5]}, 401},
		{"more than it", []string{"Bearer " + secret + "x"}, 401},
		{"another case", []string{"Bearer " + strings.ToUpper(secret)}, 401},
		{"no scheme", []string{secret}, 401},
		{"another scheme", []string{"Basic " + secret}, 401},
		{"empty", []string{"Bearer "}, 401},
		{"empty header", []string{""}, 401},
		{"the first one counts", []string{"Bearer other", "Bearer " + secret}, 401},
	}
	s, logged := tokenServer()
	h := s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	r := localRequest(http.MethodGet, "/v1/jobs")
	r.Header.Set("Authorization", "Bearer other")
	require.Equal(t, 503, serve(h, r).Code, "before the state is open it is not known whether that is a token")
	s.SetHive(newRig(t, rigOptions{}).hive)
	for _, tt := range tests {
		r := localRequest(http.MethodPost, "/v1/jobs")
		r.Header["Authorization"] = tt.header
		rec := serve(h, r)
		require.Equal(t, tt.want, rec.Code, tt.name)
		if tt.want != 401 {
			continue
		}
		require.Equal(t, "Bearer", rec.Header().Get("WWW-Authenticate"))
		p := problemOf(t, rec.Result(), rec.Body.String())
		require.Equal(t, "unauthorized", p.Code)
		require.Contains(t, p.Detail, "in /var/lib/hive/token on hive's machine", tt.name)
		require.NotContains(t, rec.Body.String(), secret)
	}
	require.NotContains(t, logged(), secret)
	require.NotContains(t, logged(), secret[:5])

	r = localRequest(http.MethodGet, "/v1/hive?token="+secret+"&access_token="+secret)
	require.Equal(t, 401, serve(h, r).Code, "a URL is no place for a token")
}

// What is the same for every hive may be seen by all; nothing else, however it is written.
func TestPublicPaths(t *testing.T) {
	s, _ := tokenServer()
	h := s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for path, want := range map[string]int{
		"/": 204, "/health": 204, "/openapi.yaml": 204, "/openapi.json": 204, "/docs": 204, "/docs/": 204, "/docs/a/b.js": 204,
		"/v1/hive": 401, "/metrics": 401, "/v1/capabilities": 401, "/capabilities": 401, "/nothing": 401,
		"/docsx": 401, "/health/": 401, "/healthx": 401, "//health": 401, "/Health": 401, "/%68ealth": 401, "/docs%2Fx": 401,
		"/v1/../health": 401, "/v1/hive?/docs/": 401, "/v1/jobs/%2e%2e%2fdocs/": 401,
	} {
		require.Equal(t, want, serve(h, localRequest(http.MethodGet, path)).Code, path)
	}
	// Below a public path the router decides, and it cleans nothing.
	h = s.Wrap(s.Router())
	for _, path := range []string{"/docs/../v1/hive", "/docs/%2e%2e/v1/hive", "/docs/..%2fv1%2fhive"} {
		rec := serve(h, localRequest(http.MethodGet, path))
		require.Equal(t, 404, rec.Code, path)
		require.Empty(t, rec.Header().Get("Location"))
	}
}

// With a token a reverse proxy's Host and a page's Origin are not judged.
func TestTokenInsteadOfHostAndOrigin(t *testing.T) {
	s, _ := tokenServer()
	h := s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	r := localRequest(http.MethodPost, "/v1/jobs")
	r.Host = "hive.example"
	r.Header.Set("Origin", "https://hive.example.org")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	require.Equal(t, 401, serve(h, r).Code)
	r.Header.Set("Authorization", "Bearer "+secret)
	require.Equal(t, 204, serve(h, r).Code)

	// Where none is asked for, one proves nothing.
	h = quietServer().Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }))
	require.Equal(t, 403, serve(h, r).Code)
}

// Who may not call is not told whether the hive recovers.
func TestUnauthorizedComesBeforeRecovering(t *testing.T) {
	s, _ := tokenServer()
	h := s.Handler()
	require.Equal(t, 401, serve(h, localRequest(http.MethodGet, "/v1/hive")).Code)
	require.Equal(t, 503, serve(h, localRequest(http.MethodGet, "/health")).Code)
	r := localRequest(http.MethodGet, "/v1/hive")
	r.Header.Set("Authorization", "Bearer "+secret)
	require.Equal(t, 503, serve(h, r).Code)
}
