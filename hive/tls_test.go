package hive_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/endpoint"
	"rbeehive/store"
)

// selfSigned is a file with a key and a certificate for it that nobody else has signed, and
// that is for no name.
func selfSigned(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	file := filepath.Join(t.TempDir(), "tls.pem")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

// A worker that serves TLS was never ready: an EOF was all that its probes saw. With its
// scheme it is ready, watched, started again and adopted, at a URL that it is reached at.
func TestAWorkerThatServesTLS(t *testing.T) {
	t.Parallel()
	asked := filepath.Join(t.TempDir(), "asked")
	sick := filepath.Join(t.TempDir(), "sick")
	entry := restarting(portUserEntry(t, "tls", "--tls", selfSigned(t), "--asked", asked, "--sick", sick), "always", 5)
	entry.Ready.Scheme = "https"
	entry.Live = catalog.LiveEntry{Path: ref("/live"), Interval: ref(100 * time.Millisecond), Failures: 2, Action: "report"}
	r := newRig(t, 1, entry)
	r.open()
	w := r.spawn("tls")
	url := fmt.Sprintf("https://127.0.0.1:%d", w.Port)
	require.Equal(t, url, w.URL)
	require.Equal(t, url, endpoint.URL(r.worker(w.WorkerID)))
	events, err := r.h.StoredEvents(r.worker(w.WorkerID).JobID)
	require.NoError(t, err)
	told := fmt.Sprintf("%+v", events)
	require.Contains(t, told, w.WorkerID+" is ready at "+url)
	list := r.do(map[string]any{"operation": "worker_process_list"})
	require.Contains(t, string(list.Result), `"url":"`+url+`"`)
	live := func(what string) {
		r.Helper()
		require.NoError(t, os.RemoveAll(asked))
		r.eventually(what, func() bool { raw, _ := os.ReadFile(asked); return strings.Count(string(raw), "GET /live") > 2 })
		r.eventually("it is ready", func() bool { return r.state(w.WorkerID) == store.WorkerReady })
	}
	live("it is watched by TLS")

	require.NoError(t, os.WriteFile(sick, fmt.Append(nil, w.PID), 0o600))
	// On a busy machine it may give no answer in time before it gives this one.
	r.eventually("it is unhealthy, for what it answers", func() bool {
		rec := r.worker(w.WorkerID)
		return rec.State == store.WorkerUnhealthy && rec.Reason == "it answers 500 Internal Server Error to /live, expected 200"
	})
	require.NoError(t, os.Remove(sick))
	r.eventually("it is ready again", func() bool { return r.state(w.WorkerID) == store.WorkerReady })

	r.close()
	r.open()
	require.Equal(t, w.PID, r.worker(w.WorkerID).Identity.PID)
	require.Equal(t, url, endpoint.URL(r.worker(w.WorkerID)))
	live("it is watched by TLS once it is adopted")

	kill9(t, w.PID)
	r.eventually("it is started again", func() bool {
		now := r.worker(w.WorkerID)
		return now.Restarts == 1 && now.State == store.WorkerReady
	})
	require.Equal(t, url, endpoint.URL(r.worker(w.WorkerID)))
}

// Who looks at a worker that speaks another scheme than its entry says is told which.
func TestAWorkerOfAnotherScheme(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scheme string
		args   []string
		says   string
	}{
		"TLS without a scheme": {"", []string{"--tls", selfSigned(t)}, "it answers TLS: set ready.scheme to https"},
		"TLS as http":          {"http", []string{"--tls", selfSigned(t)}, "it answers TLS: set ready.scheme to https"},
		"HTTP as https":        {"https", nil, "it answers without TLS: set ready.scheme to http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entry := portUserEntry(t, "other", c.args...)
			entry.Ready.Scheme, entry.Ready.Timeout = c.scheme, ref(2*time.Second)
			r := newRig(t, 1, entry)
			r.open()
			job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "other"})
			r.eventually("its reason says so while it loads", func() bool { list := r.h.Workers(); return len(list) == 1 && list[0].Reason == c.says })
			done := r.wait(job.JobID)
			require.Equal(t, store.JobFailed, done.State)
			require.Contains(t, done.Error.Message, c.says)
		})
	}
}

// Its record was written by a hive that knew no scheme: that is http, which a scheme that
// the entry says now changes.
func TestAWorkerOfAHiveWithoutSchemes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, portUserEntry(t, "plain"))
	r.open()
	w := r.spawn("plain")
	raw, err := json.Marshal(r.worker(w.WorkerID))
	require.NoError(t, err)
	require.NotContains(t, string(raw), `"tls"`)
	r.close()
	entry := portUserEntry(t, "plain")
	entry.Ready.Scheme = "http"
	r.types(entry)
	r.open()
	require.False(t, r.worker(w.WorkerID).Stale, "http is what it is")
	require.Equal(t, store.WorkerReady, r.state(w.WorkerID))
	r.close()
	entry.Ready.Scheme = "https"
	r.types(entry)
	r.open()
	r.eventually("it is stale", func() bool { return r.worker(w.WorkerID).Stale })
	now := r.worker(w.WorkerID)
	require.Equal(t, []string{"ready.scheme"}, now.Changed)
	require.Equal(t, fmt.Sprintf("http://127.0.0.1:%d", w.Port), endpoint.URL(now), "until it is started again")
}

// The flags of a preset's program are enough: the entry need not say it again.
func TestAPresetThatServesTLS(t *testing.T) {
	t.Parallel()
	file := selfSigned(t)
	entry := standInEntry(programs(t), "llama-server", "llama-server")
	entry.Model, entry.Args = modelFile(t, t.TempDir(), "q.gguf"), []string{"--ssl-key-file", file, "--ssl-cert-file", file}
	r := newRig(t, 1, entry)
	r.open()
	require.Equal(t, fmt.Sprintf("https://127.0.0.1:%d", r.port(0)), r.spawn("x").URL)
}
