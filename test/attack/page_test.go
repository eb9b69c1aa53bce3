//go:build linux

package attack_test

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A foreign page in root's browser: what it has the browser send comes from root, and
// has no effect.
func TestAWebPageInRootsBrowser(t *testing.T) {
	s := newSite(t, "workers: []\n")
	asked := s.dir + "/home/asked"
	program := s.script("vllm", "touch "+asked+"; echo 1.2.3")
	s.start()
	s.up("cpu", "victim")
	for _, site := range []string{"cross-site", "same-site"} {
		for name, a := range map[string]ask{
			"programs run for their versions":    get("/v1/types?version=1"),
			"a program run for its version":      get("/v1/types/vllm?version=1"),
			"an examination of the machine":      get("/v1/doctor"),
			"a stream of events that stays open": get("/v1/events").within(time.Second),
			"a log":                              get("/v1/workers/victim/logs"),
			"the devices, sent to a queen":       get("/capabilities?queen_url=http://127.0.0.1:9"),
			"the leases":                         get("/v1/leases"),
			"a worker":                           operate("worker_spawn", map[string]any{"worker": "cpu"}),
			"the end of hive":                    {Method: http.MethodPost, Path: "/v1/shutdown"},
			"the end of a lease":                 {Method: http.MethodDelete, Path: "/v1/leases/8080?lease_id=x"},
		} {
			t.Run(name+", by a request that is "+site, func(t *testing.T) {
				s := s.in(t)
				_ = os.Remove(asked)
				r := s.root().do(a.with("Sec-Fetch-Site", site).with("Sec-Fetch-Mode", "no-cors"))
				require.True(t, r.refused(), "%s", r)
				require.Equal(t, -1, ownerOf(asked))
				require.False(t, s.ended())
			})
		}
	}
	for _, host := range []string{"evil.example", "evil.example:7835", "127.0.0.1.evil.example", "localhost.evil.example", "2130706433.evil.example"} {
		t.Run("what root may read, under the name "+host+" that means 127.0.0.1 now", func(t *testing.T) {
			s := s.in(t)
			for _, origin := range []string{"same-origin", "none"} {
				r := s.root().do(get("/v1/leases").with("Host", host).with("Sec-Fetch-Site", origin))
				require.True(t, r.refused(), "%s", r)
				r = s.root().do(operate("worker_spawn", map[string]any{"worker": "cpu"}).with("Host", host).with("Origin", "http://"+host))
				require.True(t, r.refused(), "%s", r)
			}
		})
	}
	// A link to the page works, and so does the page.
	for _, path := range []string{"/", "/docs"} {
		r := s.root().do(get(path).with("Sec-Fetch-Site", "cross-site").with("Sec-Fetch-Mode", "navigate"))
		require.Contains(t, []int{http.StatusOK, http.StatusFound}, r.Status, "%s: %s", path, r)
	}
	_ = os.Remove(asked)
	require.NoError(t, os.Chtimes(program, time.Unix(1, 0), time.Unix(1, 0))) // it is asked again
	for _, site := range []string{"same-origin", "none"} {
		require.Equal(t, http.StatusOK, s.root().do(get("/v1/types?version=1").with("Sec-Fetch-Site", site)).Status)
	}
	require.Equal(t, 0, ownerOf(asked), "root's own page may ask the program")
}
