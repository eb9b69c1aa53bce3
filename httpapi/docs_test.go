package httpapi_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestContractIsServed(t *testing.T) {
	s := quietServer()
	h := s.Wrap(s.Router())
	file, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	rec := serve(h, localRequest(http.MethodGet, "/openapi.yaml"))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Equal(t, "application/yaml", rec.Header().Get("Content-Type"))
	require.Equal(t, string(file), rec.Body.String())

	rec = serve(h, localRequest(http.MethodGet, "/openapi.json"))
	require.Equal(t, "application/json", rec.Header().Get("Content-Type"))
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &doc))
	require.Equal(t, "3.0.3", doc.OpenAPI)
	require.Contains(t, doc.Paths["/v1/jobs"], "post")

	rec = serve(h, localRequest(http.MethodGet, "/"))
	require.Equal(t, http.StatusFound, rec.Code)
	require.Equal(t, "/docs", rec.Header().Get("Location"))
}

// The page works where there is no network: whatever it is made of comes from
// here, and its policy lets the browser ask nobody else.
func TestDocsPage(t *testing.T) {
	s := quietServer()
	h := s.Wrap(s.Router())
	rec := serve(h, localRequest(http.MethodGet, "/docs"))
	require.Equal(t, http.StatusOK, rec.Code)
	page := rec.Body.String()
	require.Contains(t, page, `"swaggerJsonUrl":"/openapi.json"`)
	refs := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	require.GreaterOrEqual(t, len(refs), 5)
	for _, ref := range refs {
		require.True(t, strings.HasPrefix(ref[1], "/docs/"), "%q leads away", ref[1])
		part := serve(h, localRequest(http.MethodGet, ref[1]))
		require.Equal(t, http.StatusOK, part.Code, ref[1])
		require.NotZero(t, part.Body.Len(), ref[1])
		require.Equal(t, "nosniff", part.Header().Get("X-Content-Type-Options"))
	}

	policy := rec.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none';", "connect-src 'self';", "frame-ancestors 'none'"} {
		require.Contains(t, policy, want)
	}
	require.NotContains(t, policy, "http")
	require.Equal(t, strings.Count(page, "<script>"), strings.Count(policy, "'sha256-"), "each script of the page may run")
	script, _, _ := strings.Cut(policy[strings.Index(policy, "script-src"):], ";")
	require.NotContains(t, script, "unsafe")

	for _, none := range []string{"/docs/", "/docs/nothing.js", "/docs/oauth2-redirect.html", "/docs/..%2Fsecret", "/docs/swagger-ui.css/x"} {
		require.Equal(t, http.StatusNotFound, serve(h, localRequest(http.MethodGet, none)).Code, none)
	}
}
