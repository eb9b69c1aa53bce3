package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/sockets"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/gateway"
	"rbeehive/httpapi/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hive is what a gateway sees of a hive: routes that the test makes, and its word on who listens.
type hive struct {
	t      *testing.T
	mu     sync.Mutex
	routes []wire.Route
	away   bool
	proven atomic.Int64
	prove  func(id string) (wire.Replica, error)
}

var errAway = errors.New("hive is away")

func (h *hive) Routes(context.Context) (client.Reply[wire.Routes], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away {
		return client.Reply[wire.Routes]{}, errAway
	}
	return client.Reply[wire.Routes]{Value: wire.Routes{Routes: h.routes}}, nil
}

func (h *hive) ProveReplica(ctx context.Context, id string) (client.Reply[wire.Replica], error) {
	h.proven.Add(1)
	// As a client's requests do: a trace of the request that waits must not take them for its own.
	if trace := httptrace.ContextClientTrace(ctx); trace != nil {
		h.t.Error("the proof is asked for with the trace of a request")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away || h.prove == nil {
		return client.Reply[wire.Replica]{}, errAway
	}
	r, err := h.prove(id)
	return client.Reply[wire.Replica]{Value: r}, err
}

// worker is a server whose listener can be taken from it.
type worker struct {
	t      *testing.T
	id     string
	ln     net.Listener
	server *http.Server
	seen   atomic.Int64 // requests
}

// shared makes sockets that others may share the port of.
func shared(_, _ string, raw syscall.RawConn) (err error) {
	ctl := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	return errors.Join(err, ctl)
}

func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	config := net.ListenConfig{Control: shared}
	ln, err := config.Listen(t.Context(), "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func startWorker(t *testing.T, id string, handler http.HandlerFunc) *worker {
	t.Helper()
	w := &worker{t: t, id: id, ln: listen(t, 0)}
	w.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.seen.Add(1)
		handler(rw, r)
	})}
	go func() { _ = w.server.Serve(w.ln) }()
	t.Cleanup(w.dies)
	return w
}

// dies ends the worker and all its connections at once.
func (w *worker) dies() { _ = w.server.Close() }

func (w *worker) port() int { return w.ln.Addr().(*net.TCPAddr).Port }

// replica is what hive says of the worker now.
func (w *worker) replica() wire.Replica {
	w.t.Helper()
	socks, err := sockets.NewTable().Listening(w.t.Context(), uint16(w.port()))
	require.NoError(w.t, err)
	r := wire.Replica{WorkerID: w.id, URL: "http://" + w.ln.Addr().String()}
	for _, s := range socks {
		r.Listeners = append(r.Listeners, wire.Listener{
			Address: s.Local.String(), Cookie: strconv.FormatUint(s.Cookie, 10), Cgroup: strconv.FormatUint(s.CgroupID, 10),
		})
	}
	return r
}

// rig is a gateway with its hive.
type rig struct {
	*testing.T

	hive *hive
	g    *gateway.Gateway
	url  string
}

func newRig(t *testing.T, workers ...*worker) *rig {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	r := &rig{T: t, hive: &hive{t: t}}
	r.g = gateway.New(gateway.Options{Hive: r.hive, Sockets: sockets.NewTable(), MaxBody: 8 << 20, MaxSpool: 12 << 20, SpoolDir: t.TempDir(), Log: log})
	server := httptest.NewServer(r.g.Handler())
	t.Cleanup(server.Close)
	r.url = server.URL
	r.routed(workers...)
	return r
}

// routed has these workers serve "m", and gives the gateway a new table.
func (r *rig) routed(workers ...*worker) {
	r.Helper()
	route := wire.Route{Name: "m", Names: []string{"m", "gpt", "org/m"}, Type: "t", State: "stopped"}
	for _, w := range workers {
		route.State = "ready"
		route.Replicas = append(route.Replicas, w.replica())
	}
	r.table(route)
}

func (r *rig) table(routes ...wire.Route) {
	r.Helper()
	r.hive.mu.Lock()
	r.hive.routes = routes
	r.hive.mu.Unlock()
	require.NoError(r, r.g.Refresh(r.Context()))
}

// do sends a request and reads the whole answer.
func (r *rig) do(method, path, body string, header ...string) (*http.Response, string) {
	r.Helper()
	resp, text, err := r.try(method, path, body, header...)
	require.NoError(r, err)
	return resp, text
}

func (r *rig) try(method, path, body string, header ...string) (*http.Response, string, error) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, r.url+path, strings.NewReader(body))
	require.NoError(r, err)
	for i := 0; i+1 < len(header); i += 2 {
		switch header[i] {
		case "":
		case "Host":
			req.Host = header[i+1]
		default:
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	var buf bytes.Buffer
	_, err = buf.ReadFrom(resp.Body)
	return resp, buf.String(), err
}

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Path", r.URL.RequestURI())
	w.Header().Set("X-Len", strconv.Itoa(len(text)))
	_, _ = w.Write(text)
}

const chat = "/v1/chat/completions"
