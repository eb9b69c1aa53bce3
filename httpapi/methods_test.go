package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/httpapi/wire"
)

// documented returns the first column of the tables in a section of docs/http-reference.md,
// and the second.
func documented(t *testing.T, section string) (rows [][2]string) {
	t.Helper()
	raw, err := os.ReadFile("../docs/http-reference.md")
	require.NoError(t, err)
	_, text, found := strings.Cut(string(raw), "\n"+section+"\n")
	require.True(t, found, section)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "## ") || strings.HasPrefix(line, "### ") {
			break
		}
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `") {
			rows = append(rows, [2]string{strings.Trim(cells[0], "|` "), strings.TrimSpace(cells[1])})
		}
	}
	require.NotEmpty(t, rows, section)
	return rows
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// documentedRoutes are the methods of each path, placeholders without their names.
func documentedRoutes(t *testing.T) map[string][]string {
	t.Helper()
	routes := map[string][]string{}
	for _, row := range documented(t, "## Routes") {
		for route := range strings.SplitSeq(row[0], "`, `") {
			method, path, ok := strings.Cut(route, " ")
			require.True(t, ok, row[0])
			path, _, _ = strings.Cut(path, "?")
			path = placeholder.ReplaceAllString(path, "{}")
			routes[path] = append(routes[path], method)
			slices.Sort(routes[path])
		}
	}
	return routes
}

// busyRig is a rig with all routes, and the path of something for each placeholder.
func busyRig(t *testing.T) (r *rig, fill func(path string) string) {
	t.Helper()
	r = newRig(t, rigOptions{
		shutdown: func() {},
		reload:   func(context.Context, bool) (hive.Plan, error) { return hive.Plan{}, nil },
	})
	w := r.spawn("cpu")
	job := decode[wire.Jobs](t, r.get("/v1/jobs", http.StatusOK)).Jobs[0].JobID
	return r, func(path string) string {
		for prefix, id := range map[string]string{
			"/v1/jobs/": job, "/v1/workers/": w.WorkerID, "/v1/leases/": fmt.Sprint(w.Port), "/v1/types/": "cpu", "/docs/": "swagger-ui.css",
		} {
			if strings.HasPrefix(path, prefix) {
				return placeholder.ReplaceAllString(path, id)
			}
		}
		return path
	}
}

func TestRoutesAreDocumented(t *testing.T) {
	r, _ := busyRig(t)
	routes := map[string][]string{}
	for path, methods := range r.server.Routes() {
		routes[placeholder.ReplaceAllString(path, "{}")] = methods
	}
	require.Equal(t, documentedRoutes(t), routes)
}

func TestMethods(t *testing.T) {
	r, fill := busyRig(t)
	for path, methods := range documentedRoutes(t) {
		path = fill(path)
		allowed := append(slices.Clone(methods), http.MethodOptions)
		if slices.Contains(methods, http.MethodGet) {
			allowed = append(allowed, http.MethodHead)
		}
		slices.Sort(allowed)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW", "get"} {
			if slices.Contains(allowed, method) {
				continue
			}
			resp, body := r.send(method, path, "")
			require.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode, "%s %s", method, path)
			require.Equal(t, strings.Join(allowed, ", "), resp.Header.Get("Allow"), "%s %s", method, path)
			if method != http.MethodHead {
				require.Equal(t, "method_not_allowed", problemOf(t, resp, body).Code)
			}
		}
		resp, body := r.send(http.MethodOptions, path, "")
		require.Equal(t, http.StatusNoContent, resp.StatusCode, path)
		require.Equal(t, strings.Join(allowed, ", "), resp.Header.Get("Allow"), path)
		require.Empty(t, body)
		require.NotEmpty(t, resp.Header.Get("X-Request-Id"), path)
	}
}

func TestOptionsOfTheServer(t *testing.T) {
	r := newRig(t, rigOptions{})
	ask := func(host string) *http.Response {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "OPTIONS * HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp
	}
	resp := ask("localhost")
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Equal(t, "DELETE, GET, HEAD, OPTIONS, POST, PUT", resp.Header.Get("Allow"))
	require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
	require.Equal(t, http.StatusForbidden, ask("evil.example").StatusCode)
}

// A path is what it says: nothing below a route, beside it or decorated is taken
// for it, and nothing is redirected.
func TestOnlyExactPathsAreRoutes(t *testing.T) {
	r, fill := busyRig(t)
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	known := documentedRoutes(t)
	for path := range known {
		if path == "/" {
			continue
		}
		others := []string{path + "/", "/" + path, path + "//", path + "/nothing/here", strings.ToUpper(path)}
		if !strings.HasSuffix(path, "}") { // else it is part of the name
			others = append(others, path+"%2F", path+"%20", path+";x=1")
		}
		for _, other := range others {
			resp, body := r.send(http.MethodGet, fill(other), "")
			require.Equal(t, http.StatusNotFound, resp.StatusCode, "%s: %s", other, body)
			require.Equal(t, "not_found", problemOf(t, resp, body).Code, other)
		}
	}
}

// The streams among the routes that are read with GET: what they send has no end
// of its own, or depends on when it is asked for.
var streamed = []string{"/v1/jobs/{}/stream", "/v1/jobs/{}/events", "/v1/events", "/v1/workers/{}/logs", "/v1/heartbeats/stream"}

func TestHeadIsGetWithoutTheBody(t *testing.T) {
	r, fill := busyRig(t)
	for path, methods := range documentedRoutes(t) {
		if !slices.Contains(methods, http.MethodGet) || slices.Contains(streamed, path) {
			continue
		}
		path = fill(path)
		get, body := r.send(http.MethodGet, path, "", "X-Request-Id", "same", "Accept-Encoding", "identity")
		head, none := r.send(http.MethodHead, path, "", "X-Request-Id", "same", "Accept-Encoding", "identity")
		require.Equal(t, get.StatusCode, head.StatusCode, path)
		require.NotEmpty(t, body, path)
		require.Empty(t, none, path)
		for _, h := range []http.Header{get.Header, head.Header} {
			h.Del("Date")
			if path == "/v1/backup" { // the file's name has the time in it
				h.Del("Content-Disposition")
			}
			if path == "/metrics" || path == "/v1/doctor" { // what they find differs from one moment to the next
				h.Del("Content-Length")
			}
		}
		require.Equal(t, get.Header, head.Header, path)
	}
}

// curl -d says that it sends a form.
func TestAnyContentTypeIsTaken(t *testing.T) {
	r, _ := busyRig(t)
	for _, typ := range []string{"", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data; boundary=x", "text/plain; charset=latin1", ";;garbage"} {
		for target, body := range map[string]string{
			"/v1/jobs": `{"operation":"worker_process_list"}`, "/v1/leases": `{"ttl":"1h"}`, "/v1/audit": "x=1", "/v1/reload": "{",
		} {
			resp, text := r.send(http.MethodPost, target, body, "Content-Type", typ)
			require.Less(t, resp.StatusCode, 300, "%s as %q: %s", target, typ, text)
			if target == "/v1/leases" {
				lease := decode[wire.Lease](t, text)
				path := fmt.Sprintf("/v1/leases/%d", lease.Port)
				resp, text = r.send(http.MethodPut, path, `{"lease_id":"`+lease.LeaseID+`"}`, "Content-Type", typ)
				require.Equal(t, http.StatusOK, resp.StatusCode, text)
				resp, _ = r.send(http.MethodDelete, path+"?lease_id="+lease.LeaseID, "")
				require.Equal(t, http.StatusOK, resp.StatusCode)
			}
		}
	}
}
