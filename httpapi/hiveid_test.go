package httpapi_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
)

// rbee's page sends as hive_id the name of the host in its address bar, and was told that
// this is another hive.
func TestHiveIDIsANameOfThisMachine(t *testing.T) {
	machine, err := os.Hostname()
	require.NoError(t, err)
	log, _ := captureLog()
	s := httpapi.New(httpapi.Options{Log: log, Access: anyone(), AllowedHosts: []string{"gpubox.lan"}})
	s.SetHive(newRig(t, rigOptions{}).hive)
	h := s.Wrap(s.Router())
	ask := func(host, hiveID string) int {
		r := localRequest(http.MethodPost, "/v1/jobs")
		r.Host = host
		r.Body = io.NopCloser(strings.NewReader(`{"operation":"worker_process_list","hive_id":"` + hiveID + `"}`))
		return serve(h, r).Code
	}
	for hiveID, want := range map[string]int{
		"gpubox.lan": 202, "GPUBOX.lan.": 202, "gpubox.lan:7835": 202, machine: 202, strings.ToUpper(machine): 202,
		"127.0.0.1": 202, "[::1]": 202, "localhost": 202, "": 202,
		"other": 400, "other.lan:7835": 400, "gpubox.lan.evil.example": 400, "192.0.2.1": 400, ".": 400, ":7835": 400,
	} {
		require.Equal(t, want, ask("localhost:7835", hiveID), "%q", hiveID)
	}
	require.Equal(t, 400, ask("localhost", "[::2]"))
	// The name that the request came by: here one of loopback, for others are refused before.
	require.Equal(t, 202, ask("127.1.2.3:7835", "127.1.2.3"))
	r := localRequest(http.MethodPost, "/v1/jobs")
	r.Host = "hive.proxy.lan:8443"
	require.True(t, s.IsOurName("hive.proxy.lan", r), "with a token any Host is answered")
	require.False(t, s.IsOurName("elsewhere.lan", r))
}
