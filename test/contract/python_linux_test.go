package contract_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/test/contract"
	"rbeehive/test/harness"
	"rbeehive/test/skip"
)

// A program in another language, which has nothing but the contract, runs a worker
// of the daemon as it is shipped. What passes between them is checked against
// the contract as well.
func TestPythonDrivesHiveByItsContract(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		skip.Because(t, "python3 is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	binary := filepath.Join(t.TempDir(), "hive")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	hive, err := harness.New(binary, 3, "[]")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hive.Close(nil)) })
	require.NoError(t, hive.Start(ctx))

	text, err := hive.Text(ctx, "/openapi.yaml")
	require.NoError(t, err)
	document, err := contract.Load([]byte(text))
	require.NoError(t, err)
	proxy := checking(t, "http://"+hive.API, document)

	drive := exec.CommandContext(ctx, python, "testdata/drive.py", proxy, "cpu")
	out, err = drive.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "driven\n", string(out))
	require.NotContains(t, document.Unseen(), "GET /v1/jobs/{id}/events")
}

// checking is the address of a proxy that fails the test where a response of the
// target is not as the document says.
func checking(t *testing.T, target string, document *contract.Document) string {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:     document.Transport(transport, func(err error) { t.Errorf("contract: %v", err) }),
		FlushInterval: -1,
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}
