package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
	"go.yaml.in/yaml/v3"
)

// contract is the document of the whole API.
//
//go:embed openapi.yaml
var contract []byte

// docs serves the contract, and a page to read and try it.
type docs struct {
	json   []byte
	html   []byte
	policy string // Content-Security-Policy of the page
	ui     http.Handler
}

// newDocs panics if the embedded contract is broken, which a test would show.
func newDocs() *docs {
	var doc any
	if err := yaml.Unmarshal(contract, &doc); err != nil {
		panic(fmt.Errorf("openapi.yaml: %w", err))
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Errorf("openapi.yaml: %w", err))
	}
	d := &docs{json: append(text, '\n'), ui: v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "hive", SwaggerJSON: "/openapi.json", BasePath: "/docs",
		SettingsUI: map[string]string{"defaultModelsExpandDepth": "1", "showExtensions": "false"},
	})}
	var page recording
	d.ui.ServeHTTP(&page, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/docs"}})
	d.html = page.Bytes()
	d.policy = pagePolicy(d.html)
	return d
}

// recording is an answer that is kept.
type recording struct {
	bytes.Buffer
	header http.Header
}

// Header implements http.ResponseWriter.
func (r *recording) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

// WriteHeader implements http.ResponseWriter.
func (*recording) WriteHeader(int) {}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// pagePolicy lets the page load from this hive and nowhere else, and run no
// script but its own. Swagger UI sets styles from its script.
func pagePolicy(page []byte) string {
	scripts := "'self'"
	for _, script := range inlineScript.FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(script[1])
		scripts += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; script-src " + scripts + "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func (d *docs) redirect(w http.ResponseWriter) {
	w.Header().Set("Location", "/docs")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	writeBody(w, http.StatusFound, []byte("see /docs\n"))
}

func (d *docs) contract(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/yaml")
	writeBody(w, http.StatusOK, contract)
}

func (d *docs) contractJSON(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	writeBody(w, http.StatusOK, d.json)
}

func (d *docs) page(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", d.policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	writeBody(w, http.StatusOK, d.html)
}

// file sends what the page is made of.
func (d *docs) file(w http.ResponseWriter, r *http.Request, name string) error {
	if !slices.Contains([]string{
		"swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "favicon-16x16.png", "favicon-32x32.png",
	}, name) {
		return fmt.Errorf("%w: %s", errNoRoute, r.URL.Path)
	}
	w.Header().Set("Cache-Control", "no-cache") // it has an ETag
	w.Header().Set("X-Content-Type-Options", "nosniff")
	extend(w)
	d.ui.ServeHTTP(w, r)
	return nil
}
