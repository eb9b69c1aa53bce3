package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/tokens"
	"rbeehive/httpapi"
	"rbeehive/httpapi/wire"
)

// queen is a small queen: it hears of a hive and listens to its telemetry, as rbee's
// does. The first announcement is answered by a 500, so that hive has to repeat it.
type queen struct {
	url      string
	beats    chan string
	mu       sync.Mutex
	requests []string
	wg       sync.WaitGroup
}

func startQueen(t *testing.T, refusals int) *queen {
	t.Helper()
	q := &queen{beats: make(chan string, 16)}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var word struct {
			HiveID  string `json:"hive_id"`
			HiveURL string `json:"hive_url"`
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.requests = append(q.requests, r.Method+" "+r.URL.Path+" "+string(body))
		if err != nil || json.Unmarshal(body, &word) != nil || len(q.requests) <= refusals {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		q.wg.Go(func() { q.listen(client, word.HiveURL) })
	}))
	t.Cleanup(func() { server.Close(); q.wg.Wait() })
	q.url = server.URL
	return q
}

// listen takes one heartbeat and goes.
func (q *queen) listen(client *http.Client, hiveURL string) {
	resp, err := client.Get(hiveURL + "/v1/heartbeats/stream")
	if err != nil {
		q.beats <- err.Error()
		return
	}
	defer resp.Body.Close()
	buf := make([]byte, 64<<10)
	n := 0
	for err == nil && !bytes.Contains(buf[:n], []byte("\n\n")) {
		var more int
		more, err = resp.Body.Read(buf[n:])
		n += more
	}
	q.beats <- string(buf[:n])
}

func (q *queen) received() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]string{}, q.requests...)
}

func TestCapabilities(t *testing.T) {
	r := newRig(t, rigOptions{})
	body := r.get("/v1/capabilities", http.StatusOK)
	require.Equal(t, body, r.get("/capabilities", http.StatusOK))
	devices := decode[wire.Capabilities](t, body).Devices
	cpu := devices[len(devices)-1]
	require.Equal(t, "CPU-0", cpu.ID)
	require.Equal(t, "cpu", cpu.DeviceType)
	require.Regexp(t, `^CPU \(\d+ cores?\)$`, cpu.Name)
	require.Nil(t, cpu.ComputeCapability)
	require.Contains(t, body, `"compute_capability":null`)
	require.Equal(t, body, r.get("/capabilities?queen_url=", http.StatusOK), "nobody")
	resp, _ := r.send(http.MethodHead, "/capabilities", "")
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// The whole of it: the queen asks what the hive has, is told of it (it accepts the second
// announcement), and listens.
func TestAQueenComes(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.spawn("cpu")
	q := startQueen(t, 1)
	r.get("/capabilities?queen_url="+q.url, http.StatusOK)
	r.get("/v1/capabilities?queen_url="+q.url, http.StatusOK)
	beat := <-q.beats
	require.Contains(t, beat, "event: heartbeat\ndata: {")
	require.Contains(t, beat, `"group":"cpu"`)
	word := `POST /v1/hive/ready {"hive_id":"localhost","hive_url":"` + r.url + `"}`
	require.Equal(t, []string{word, word}, q.received())
}

func TestWhoMayNameAQueen(t *testing.T) {
	r := newRig(t, rigOptions{})
	q := startQueen(t, 0)
	for _, text := range []string{"queen.lan:7833", "http://u:p@queen.lan", "ftp://queen.lan", "http%3A%2F%2Fq.lan%2F%3Fx"} {
		require.Contains(t, r.get("/capabilities?queen_url="+text, http.StatusBadRequest), "queen_url: expected the URL of a queen")
	}
	require.Contains(t, r.get("/capabilities?queen_url=a&queen_url=b", http.StatusBadRequest), "twice")

	// A page in the browser of whoever sits here: an <img> is enough for a GET.
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "http://evil.example"}} {
		resp, body := r.send(http.MethodGet, "/capabilities?queen_url="+q.url, "", header...)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
		require.Contains(t, body, `"code":"cross_origin"`)
	}

	// Who may only look gets an answer, and no more.
	log, logged := captureLog()
	guarded := httpapi.New(httpapi.Options{Log: log, Token: "secret", Access: &access.Policy{Mode: access.ByToken}})
	guarded.SetHive(r.hive)
	ask := func(token string) int {
		req := httptest.NewRequest(http.MethodGet, "http://localhost/capabilities?queen_url="+q.url, nil)
		req.RemoteAddr = "192.0.2.7:4711"
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		guarded.Handler().ServeHTTP(w, req)
		return w.Code
	}
	require.Equal(t, http.StatusUnauthorized, ask(""))
	_, reader, err := r.hive.Tokens().Add(t.Context(), access.Hive(), tokens.Request{Name: "queen", Rights: access.Rights{Level: access.Read}})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, ask(reader))
	require.Contains(t, logged(), "ignored a queen that introduced itself")
	require.Empty(t, q.received())

	// An admin is heard, by token and over a socket.
	require.Equal(t, http.StatusOK, ask("secret"))
	<-q.beats
	require.Len(t, q.received(), 1)

	bySocket := startQueen(t, 0)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	startOn(t, guarded, ln)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Get("http://hive/capabilities?queen_url=" + bySocket.url)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	<-bySocket.beats
}
