package gateway_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/alloc/sockets"
	"rbeehive/httpapi/gateway"
	"rbeehive/httpapi/wire"
)

// BenchmarkDirect is a request to a worker over a kept connection, BenchmarkGateway the same through the
// gateway.
func BenchmarkDirect(b *testing.B)  { benchmarkRequests(b, false) }
func BenchmarkGateway(b *testing.B) { benchmarkRequests(b, true) }

func benchmarkRequests(b *testing.B, through bool) {
	b.Helper()
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"hello"}}]}`)
	}))
	defer worker.Close()
	url := worker.URL
	if through {
		log := logrus.New()
		log.SetLevel(logrus.WarnLevel)
		h := &hive{}
		socks, err := sockets.NewTable().Listening(b.Context(), worker.Listener.Addr().(*net.TCPAddr).AddrPort().Port())
		require.NoError(b, err)
		replica := wire.Replica{WorkerID: "w-1", URL: worker.URL}
		for _, s := range socks {
			replica.Listeners = append(replica.Listeners, wire.Listener{
				Address: s.Local.String(), Cookie: strconv.FormatUint(s.Cookie, 10), Cgroup: strconv.FormatUint(s.CgroupID, 10),
			})
		}
		h.routes = []wire.Route{{Name: "m", Names: []string{"m"}, State: "ready", Replicas: []wire.Replica{replica}}}
		g := gateway.New(gateway.Options{Hive: h, Sockets: sockets.NewTable(), SpoolDir: b.TempDir(), Log: log})
		require.NoError(b, g.Refresh(b.Context()))
		server := httptest.NewServer(g.Handler())
		defer server.Close()
		url = server.URL
	}
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"hello"}]}`)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := http.Post(url+chat, "application/json", bytes.NewReader(body)) //nolint:noctx // on loopback
			if err != nil || resp.StatusCode != http.StatusOK {
				b.Error(err, resp)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
}
