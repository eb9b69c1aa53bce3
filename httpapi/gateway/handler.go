package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"rbeehive/httpapi/wire"
)

const requestID = "X-Request-Id"

// silent is for what net/http and its proxy say, which the gateway says by itself.
var silent = log.New(io.Discard, "", 0)

// engines are the paths outside /v1/ that are the engines' own and ask for a model; llama.cpp's server,
// stable-diffusion.cpp's and text-embeddings-inference have them.
var engines = []string{
	"/rerank", "/reranking", "/infill", "/completion", "/completions", "/chat/completions", "/embedding", "/embeddings",
	"/tokenize", "/detokenize", "/apply-template", "/embed", "/predict",
}

// Handler serves the gateway's address.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { g.health(w) })
	mux.Handle("GET /metrics", g.metrics.handler())
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) { g.models(w) })
	mux.HandleFunc("GET /v1/models/{id...}", g.model)
	mux.HandleFunc("/v1/", g.serve)
	mux.HandleFunc("/sdapi/v1/", g.serve)
	mux.HandleFunc(upstream, g.serve)
	for _, path := range engines {
		mux.HandleFunc(path, g.serve)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(http.StatusNotFound, "no_route", "%s is no path of this gateway; models are asked at /v1/..., and /upstream/MODEL/... is passed to a worker as it is", r.URL.Path).write(w, r.URL.Path)
	})
	return g.guard(mux)
}

// guard refuses who is not known to be a program of this machine: a browser that was led here by another
// site, a name that another site resolves to this machine, and what a proxy passes on.
func (g *Gateway) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestID)
		if id == "" || len(id) > 128 {
			id = uuid.NewString()
		}
		r.Header.Set(requestID, id)
		w.Header().Set(requestID, id)
		switch {
		case !local(r.Host):
			refuse(http.StatusForbidden, "host_not_allowed", "the Host %q is not one of this machine: expected localhost or a loopback address", r.Host).write(w, r.URL.Path)
		case g.foreign(r):
			refuse(http.StatusForbidden, "origin_not_allowed", "requests from pages of other sites are refused").write(w, r.URL.Path)
		case forwarded(r.Header):
			refuse(http.StatusForbidden, "forwarded", "the request was passed on by a proxy, and who sent it is not known: this gateway serves programs of this machine only").write(w, r.URL.Path)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// foreign reports whether a page of another site has sent the request. Of a GET, too: engines let any page
// read their answers (CORS), some do something for it, and a websocket begins with one.
func (g *Gateway) foreign(r *http.Request) bool {
	r = r.WithContext(r.Context())
	r.Method = http.MethodPost // the check lets all others through
	return g.origin.Check(r) != nil
}

// local reports whether a Host header means this machine.
func local(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	addr, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

func forwarded(h http.Header) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"} {
		if _, there := h[name]; there {
			return true
		}
	}
	return false
}

func (g *Gateway) health(w http.ResponseWriter) {
	if !g.first.taken() {
		refuse(http.StatusServiceUnavailable, "no_routes", "hive has not given this gateway its routes yet").again(time.Second).write(w, "")
		return
	}
	answer(w, map[string]string{"status": "ok"})
}

// served is a route as /v1/models shows it: an OpenAI model, and what hive knows besides.
type served struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Hive    state  `json:"hive"`
}

type state struct {
	State    string   `json:"state"`
	Reason   *string  `json:"reason"`
	Type     string   `json:"type"`
	Names    []string `json:"names"`
	Replicas int      `json:"replicas"`
	InFlight int64    `json:"in_flight"`
}

func (t *table) show(r wire.Route) served {
	s := served{ID: r.Name, Object: "model", OwnedBy: "hive", Hive: state{State: r.State, Reason: r.Reason, Type: r.Type, Names: r.Names, Replicas: len(r.Replicas)}}
	for _, shape := range r.Replicas {
		if at := t.replicas[shape.WorkerID]; at != nil {
			s.Hive.InFlight += at.inFlight.Load()
		}
	}
	return s
}

func (g *Gateway) models(w http.ResponseWriter) {
	t := g.table.Load()
	list := make([]served, 0, len(t.routes))
	for _, r := range t.routes {
		list = append(list, t.show(r))
	}
	answer(w, map[string]any{"object": "list", "data": list})
}

func (g *Gateway) model(w http.ResponseWriter, r *http.Request) {
	t := g.table.Load()
	route, ok := t.known[r.PathValue("id")]
	if !ok {
		g.unknown(t, r.PathValue("id")).write(w, r.URL.Path)
		return
	}
	answer(w, t.show(route))
}

func answer(w http.ResponseWriter, v any) {
	text, _ := json.Marshal(v) // of texts and numbers
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(text)+1))
	_, _ = w.Write(append(text, '\n'))
}

// unknown is the answer for a name that leads nowhere.
func (g *Gateway) unknown(t *table, name string) *refusal {
	r := refuse(http.StatusNotFound, "model_not_found", "no model %q is served here", name)
	if close := t.like(name); len(close) > 0 {
		r.message += "; did you mean " + strings.Join(close, ", ") + "?"
	} else if names := t.names(); len(names) > 0 {
		r.message += "; there is " + strings.Join(names[:min(len(names), 10)], ", ")
	}
	return r
}

// serve passes a request to a replica of the model that it asks for.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	rec := &recorder{ResponseWriter: w}
	x := &exchange{g: g, begin: begin, route: noRoute}
	err := x.prepare(rec, r)
	defer func() { x.body.close() }()
	// A panic is how ReverseProxy cuts an answer that cannot be completed.
	defer func() { x.log(r, rec, time.Since(begin)) }()
	if err != nil {
		x.fail(rec, r, err)
		return
	}
	g.metrics.inFlight.WithLabelValues(x.route).Inc()
	defer g.metrics.inFlight.WithLabelValues(x.route).Dec()
	proxy := httputil.ReverseProxy{
		Rewrite: x.rewrite, Transport: x, FlushInterval: -1, ModifyResponse: x.response,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { x.fail(w, r, err) },
		ErrorLog:     silent, BufferPool: buffers,
	}
	proxy.ServeHTTP(rec, r)
}

// prepare reads the request and finds its model.
func (x *exchange) prepare(w http.ResponseWriter, r *http.Request) (err error) {
	if x.body, err = x.g.spool(w, r); err != nil {
		return err
	}
	if x.want, err = want(r, x.body); err != nil {
		return err
	}
	t := x.g.table.Load()
	route, ok := t.known[x.want.name]
	switch {
	case !ok && !x.g.first.taken():
		return refuse(http.StatusServiceUnavailable, "no_routes", "hive has not given this gateway its routes yet").again(time.Second)
	case !ok:
		return x.g.unknown(t, x.want.name)
	}
	x.route = route.Name
	if len(t.byName[x.want.name]) == 0 {
		return x.cold(route)
	}
	return nil
}

// cold is the answer while no replica is ready.
func (x *exchange) cold(route wire.Route) *refusal {
	why := ""
	if route.Reason != nil {
		why = " (" + *route.Reason + ")"
	}
	if slices.Contains([]string{"starting", "loading"}, route.State) {
		return refuse(http.StatusServiceUnavailable, "model_loading", "the model %q is %s%s; ask again in a moment", route.Name, route.State, why).again(2 * time.Second)
	}
	return refuse(http.StatusServiceUnavailable, "model_not_running", "the model %q is %s%s; start it with `hivectl up %s`", route.Name, route.State, why, route.Type).again(10 * time.Second)
}

// fail answers a request that was not answered by a worker.
func (x *exchange) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // whoever still reads must not see an empty success
	}
	refused, ok := errors.AsType[*refusal](err)
	if !ok {
		x.g.log.WithError(err).WithField("route", x.route).Warn("a request could not be passed on")
		refused = refuse(http.StatusBadGateway, "worker_failed", "the request could not be answered: %v", err)
	}
	refused.write(w, r.URL.Path)
}

func (x *exchange) log(r *http.Request, rec *recorder, took time.Duration) {
	code := rec.status
	if context.Cause(r.Context()) != nil || x.cut {
		code = 0
	}
	x.g.metrics.requests.WithLabelValues(x.route, strconv.Itoa(code)).Inc()
	if !x.g.log.IsLevelEnabled(logrus.InfoLevel) {
		return
	}
	x.g.log.WithFields(logrus.Fields{
		"method": r.Method, "path": r.URL.Path, "route": x.route, "replica": x.replica, "status": code, "bytes": rec.bytes,
		"ms": took.Milliseconds(), "tries": x.tries, "id": r.Header.Get(requestID),
	}).Info("request")
}

// recorder notes what is answered.
type recorder struct {
	http.ResponseWriter

	status int
	bytes  int64
}

// Unwrap is for http.ResponseController, by which ReverseProxy flushes and takes connections over.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}
